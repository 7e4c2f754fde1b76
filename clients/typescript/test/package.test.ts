/** The package as it is published, in a project of its own; and its documentation, which runs there. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publint } from "publint";
import { reference } from "../scripts/docs.mjs";
import * as exported from "../src/index.js";
import { atEnd, DEADLINE, shared } from "./live.js";

const run = promisify(execFile);
const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const TSC = join(PACKAGE, "node_modules/.bin/tsc");
const README = readFileSync(join(PACKAGE, "README.md"), "utf8");

const router = shared({ metrics_interval_s: 0.2 });

/** An empty project, in which the tarball is installed, and `ws`. */
let project = "";
let packed: string[] = [];
let tarball = "";

before(async () => {
  project = mkdtempSync(join(tmpdir(), "project-"));
  writeFileSync(join(project, "package.json"), '{"private": true, "type": "module"}');
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], { cwd: PACKAGE });
  const [{ filename, files }] = Object.values(JSON.parse(stdout.slice(stdout.search(/^[[{]$/m)))) as [
    { filename: string; files: { path: string }[] },
  ];
  tarball = filename;
  packed = files.map(({ path }) => path).sort();
  const ws = join(PACKAGE, "node_modules/ws");
  const install = ["install", "--offline", "--install-links", "--no-audit", "--no-fund", join(project, filename), ws];
  await run("npm", install, { cwd: project });
});

after(() => rmSync(project, { recursive: true }));

function write(name: string, text: string): string {
  writeFileSync(join(project, name), text);
  return name;
}

/** The README's code of a language, block by block. */
function blocks(language: string): string[] {
  return [...README.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(([, code]) => code as string);
}

test("it holds what it is to hold, and nothing else", () => {
  const known =
    /^(README\.md|CHANGELOG\.md|package\.json|docs\/api\.md|dist\/index(\.min)?\.js(\.map)?|dist\/\w+\.d\.ts)$/;
  assert.deepEqual(
    packed.filter((path) => !known.test(path)),
    [],
  );
  for (const path of ["dist/index.js", "dist/index.min.js", "dist/index.d.ts", "README.md", "docs/api.md"]) {
    assert(packed.includes(path), path);
  }
});

test("a linter of packages finds nothing", async () => {
  const pkgDir = join(project, "node_modules/neurograph-ws-client");
  assert.deepEqual((await publint({ pkgDir, pack: false, strict: true })).messages, []);
});

test("it is imported by name, as default, and minified", DEADLINE, async () => {
  const script = write(
    "imports.mjs",
    `import Client, { NeurographWSClient, Channel } from "neurograph-ws-client";
     import * as minified from "neurograph-ws-client/min.js";
     if (Client !== NeurographWSClient) throw new Error("the default is another");
     const names = Object.keys(await import("neurograph-ws-client")).sort();
     if (Object.keys(minified).sort().join() !== names.join()) throw new Error("minified it has other names");
     if (new minified.QueueFullError("x", "y").name !== "QueueFullError") throw new Error("minified names");
     try { new Client({ url: "ws://127.0.0.1/ws" }) } catch (error) { console.log(error.message) }
     console.log(Channel.METRICS, names.length);`,
  );
  const { stdout } = await run(process.execPath, [script], { cwd: project });
  const said = stdout.trim().split("\n");
  assert.equal(said.at(-1), `metrics ${Object.keys(exported).length}`);
  if (!("WebSocket" in globalThis)) assert.match(said[0] ?? "", /npm install ws/);
});

for (const [resolution, module] of Object.entries({ nodenext: "nodenext", bundler: "esnext" })) {
  test(`its types are found and good: ${resolution}`, DEADLINE, async () => {
    const samples = blocks("ts").map((code, n) => write(`sample-${resolution}-${n}.ts`, code));
    assert.equal(samples.length, 1);
    const wrong = `import { NeurographWSClient } from "neurograph-ws-client";
      new NeurographWSClient({ url: "" }).subscribe("metrics", ({ data }) => data.cpu_percent?.toUpperCase());`;
    const options = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--types", ""];
    const check = (...files: string[]) =>
      run(TSC, ["--ignoreConfig", ...options, "--module", module, "--moduleResolution", resolution, ...files], {
        cwd: project,
      } as object);
    await check(...samples);
    await assert.rejects(check(write(`wrong-${resolution}.ts`, wrong)), { stdout: /toUpperCase.*does not exist/ });
  });
}

/** Run a program in the project until it has said all of this; it may not complain. */
async function says(t: TestContext, program: string | string[], ...wanted: RegExp[]): Promise<void> {
  const [command = "", ...args] = typeof program === "string" ? [process.execPath, program] : program;
  const env = { ...process.env, DENO_NO_UPDATE_CHECK: "1", DENO_DIR: join(project, ".deno") };
  const child: ChildProcess = spawn(command, args, { cwd: project, env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  atEnd(t, () => {
    child.kill();
    return ended;
  });
  let [said, complaints] = ["", ""];
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on("data", (data) => {
      complaints += data;
    });
    child.stdout?.on("data", (data) => {
      said += data;
      if (wanted.every((one) => one.test(said))) resolve();
    });
    child.once("close", () => reject(new Error(`it ended, having said: ${said}${complaints}`)));
  });
  assert.equal(complaints, "");
}

for (const runtime of ["deno", "bun"]) {
  test(`it runs in ${runtime}, with its WebSocket`, DEADLINE, async (t) => {
    const program = write(
      `${runtime}.mjs`,
      `import { NeurographWSClient } from "neurograph-ws-client";
       const client = new NeurographWSClient({ url: "${router.url}" });
       await client.connect();
       const events = client.events("actions");
       await client.publish("actions", "signal.x", { by: "${runtime}" });
       for await (const { data } of events) if (data.by === "${runtime}") break;
       const last = client.publish("actions", "signal.x");
       await client.disconnect();
       console.log((await last).type, client.getConnectionInfo().state);`,
    );
    const args = runtime === "deno" ? ["--allow-net=127.0.0.1", "--node-modules-dir=manual"] : [];
    await says(t, [join(PACKAGE, "node_modules/.bin", runtime), "run", ...args, program], /^published closed$/m);
  });
}

test("the README says how to install it", () => {
  const [commands = ""] = blocks("sh");
  assert.match(commands, /npm pack/);
  assert(commands.includes(`/${tarball} ws`), commands);
});

test("the first screen of the README works when pasted", DEADLINE, async (t) => {
  const [first = ""] = blocks("js");
  assert(first.startsWith("// monitor.mjs\n"));
  const program = write("monitor.mjs", first.replace("ws://127.0.0.1:8000/ws", router.url));
  await says(t, program, /^1 signal\.input\.text \{ priority: 200 \}$/m, /^[\d.]+ % CPU, 1 clients$/m);
});

test("so do its other programs, one after the other", DEADLINE, async (t) => {
  const [, ...others] = blocks("js");
  assert(others.length > 5);
  const setup = `
import { NeurographWSClient } from "neurograph-ws-client";
import WebSocket from "ws";
const client = new NeurographWSClient({ url: "${router.url}", webSocket: WebSocket });
client.on("error", (error) => console.error(error));
await client.connect();
await client.publish("signals", "signal.before");
`;
  const bodies = others.map((code, n) => `{\n${code}console.log("block ${n} is done");\n}\n`);
  const program = write("others.mjs", `${setup}${bodies.join("")}await client.disconnect();\n`);
  await says(t, program, new RegExp(`block ${others.length - 1} is done`));
});

test("the page in the README is one", () => {
  const [page = ""] = blocks("html");
  const path = page.match(/"\.\/node_modules\/neurograph-ws-client\/(.*?)"/)?.[1];
  assert(path && packed.includes(path), path);
});

test("the reference is up to date, and has every export: npm run docs", () => {
  const written = readFileSync(join(PACKAGE, "docs/api.md"), "utf8");
  assert.equal(written, reference());
  for (const name of Object.keys(exported)) assert(name === "default" || written.includes(`\n## ${name}\n`), name);
});

test("the README's links lead somewhere", () => {
  for (const [, target = ""] of README.matchAll(/\]\((?!https:)([^)]+)\)/g)) {
    const [file, anchor] = target.split("#");
    const text = file ? readFileSync(join(PACKAGE, file), "utf8") : README;
    const anchors = [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) => title.toLowerCase().replace(/ /g, "-"));
    assert(!anchor || anchors.includes(anchor), target);
  }
});
