import type { BuildResult } from "esbuild";

export function bundle(options: { minify: boolean; outfile?: string }): Promise<BuildResult>;
