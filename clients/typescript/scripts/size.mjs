/** Fail where the client, minified and gzipped, is not under 8 KB. */
import { gzipSync } from "node:zlib";
import { bundle } from "./bundle.mjs";

const LIMIT = 8000;

const { outputFiles } = await bundle({ minify: true });
const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
console.log(`${size} bytes minified and gzipped, ${outputFiles[0].contents.length} minified; under ${LIMIT} wanted`);
if (size >= LIMIT) process.exitCode = 1;
