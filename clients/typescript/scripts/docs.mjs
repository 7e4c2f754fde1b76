/** Make docs/api.md from the declarations and their comments. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Where the exports are, in the order of the reference, and which: all, where none are named. */
const MODULES = {
  client: ["NeurographWSClient", "NewEvent"],
  options: [],
  errors: [],
  protocol: [],
  pending: ["Pending"],
};

/** What stands at this indentation: each declaration, which ends there too, with its comment as prose. */
function* declarations(lines, indent) {
  let comment = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at];
    if (line.startsWith(`${indent}/**`)) {
      const end = lines.findIndex((one, n) => n >= at && one.includes("*/"));
      comment = lines.slice(at, end + 1);
      at = end;
    } else if (line.startsWith(indent) && /^\w/.test(line.slice(indent.length))) {
      const end = lines.findIndex((one, n) => n >= at && /^(\w.*[;}]|}.*)$/.test(one.slice(indent.length)));
      if (end < 0) throw new Error(`no end of: ${line}`);
      yield { prose: prose(comment), lines: lines.slice(at, end + 1).map((one) => one.slice(indent.length)) };
      at = end;
      comment = [];
    }
  }
}

function prose(comment) {
  return comment
    .map((line) =>
      line
        .trim()
        .replace(/^\/?\*+\/? ?/, "")
        .replace(/ ?\*\/$/, ""),
    )
    .join("\n")
    .trim();
}

function code(lines) {
  return `\`\`\`ts\n${lines
    .join("\n")
    .replace(/^export (declare )?/, "")
    .replace("\n    #private;", "")
    .replaceAll("    ", "  ")}\n\`\`\``;
}

/** The client's members, each under a heading of its own; overloads share one. */
function members([head, ...lines]) {
  const sections = new Map();
  for (const { prose, lines: signature } of declarations(lines, "    ")) {
    const name = signature[0].match(/^[\w]+/)?.[0];
    const known = sections.get(name);
    if (known) known.signature.push(...signature);
    else sections.set(name, { prose, signature });
  }
  const parts = [...sections].map(([name, { prose, signature }]) => {
    return [`### ${name}`, code(signature), prose].filter(Boolean).join("\n\n");
  });
  return [code([head, "    …", "}"]), ...parts].join("\n\n");
}

function section({ prose, lines }) {
  const name = lines[0].match(/(?:class|interface|type|const|function) (\w+)/)[1];
  const rest = name === "NeurographWSClient" ? members(lines) : code(lines);
  return { name, text: [`## ${name}`, prose, rest].filter(Boolean).join("\n\n") };
}

/** The reference as Markdown. */
export function reference() {
  const folder = mkdtempSync(join(tmpdir(), "declarations-"));
  try {
    const tsc = join(ROOT, "node_modules/.bin/tsc");
    execFileSync(tsc, ["--project", "tsconfig.build.json", "--outDir", folder], { cwd: ROOT, stdio: "inherit" });
    const sections = Object.entries(MODULES).flatMap(([module, wanted]) => {
      const lines = readFileSync(join(folder, `${module}.d.ts`), "utf8").split("\n");
      const exported = [...declarations(lines, "")].filter(({ lines }) => lines[0].startsWith("export "));
      const made = exported.map(section);
      return wanted.length ? wanted.map((name) => made.find((one) => one.name === name)) : made;
    });
    const contents = sections.map(({ name }) => `[${name}](#${name.toLowerCase()})`).join(" ·\n");
    const intro = "Made from the comments in `src/` by `npm run docs`. How to use it: [README.md](../README.md).";
    return `# What there is to call\n\n${intro}\n\n${contents}\n\n${sections.map(({ text }) => text).join("\n\n")}\n`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(join(ROOT, "docs/api.md"), reference());
