/** Make dist/: one file to import, the same minified for pages, source maps, and types. */
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { bundle } from "./bundle.mjs";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
rmSync("dist", { recursive: true, force: true });
await bundle({ minify: false, outfile: "dist/index.js" });
await bundle({ minify: true, outfile: "dist/index.min.js" });
execFileSync("node_modules/.bin/tsc", ["--project", "tsconfig.build.json"], { stdio: "inherit" });
