"""Where events get their positions. `memory` is the only engine: positions live as long as the process."""
