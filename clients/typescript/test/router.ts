/** The real server, as a process of its own on a free port. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
/** Another interpreter that has the router installed: NEUROGRAPH_PYTHON. */
const PYTHON = process.env.NEUROGRAPH_PYTHON ?? `${ROOT}.venv/bin/python`;

/** `python -m router`, which ends when its standard input does: a test run that is killed leaves none behind. */
const ROUTER = `
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(1)), daemon=True).start()
runpy.run_module("router", run_name="__main__", alter_sys=True)
`;

export interface Router {
  port: number;
  url: string;
  /** Tell it to stop, or `SIGKILL` it, and wait until it has ended. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Start a router; `settings` as in its configuration, `port` to come back on the same one. */
export async function startRouter(settings: Record<string, string | number> = {}, port = 0): Promise<Router> {
  if (!existsSync(PYTHON)) throw new Error(`no ${PYTHON}: run make test at the root, or set NEUROGRAPH_PYTHON`);
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("NEUROGRAPH_")));
  for (const [name, value] of Object.entries(settings)) env[`NEUROGRAPH_${name.toUpperCase()}`] = String(value);
  const child = spawn(PYTHON, ["-c", ROUTER, "serve", "--port", String(port)], {
    cwd: ROOT,
    env,
    stdio: ["pipe", "ignore", "pipe"],
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const bound = await listening(child);
  return {
    port: bound,
    url: `ws://127.0.0.1:${bound}/ws`,
    stop: (signal = "SIGTERM") => {
      child.kill(signal);
      return ended;
    },
  };
}

/** The port, from its log: one JSON record a line on stderr. */
function listening(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stderr?.on("data", (data: Buffer) => {
      said += data;
      const line = said.split("\n").find((one) => one.includes('"listening"'));
      if (line?.endsWith("}")) resolve(JSON.parse(line).port);
    });
    child.once("error", reject);
    child.once("close", () => reject(new Error(`the router ended: ${said}`)));
  });
}
