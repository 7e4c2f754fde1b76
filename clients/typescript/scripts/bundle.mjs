/** The client as one file, as it is published: the build and the size check make the same. */
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** Bundle into `outfile`, relative to the package; without one only the result is returned. */
export function bundle({ minify, outfile }) {
  return build({
    entryPoints: [path("src/index.ts")],
    bundle: true,
    minify,
    format: "esm",
    target: "es2022",
    sourcemap: outfile ? "linked" : false,
    write: Boolean(outfile),
    outfile: path(outfile ?? "dist/index.min.js"),
    logLevel: "error",
  });
}
