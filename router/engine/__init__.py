"""Where events get their positions. `memory` is the one engine there is: positions live as long as the process."""
