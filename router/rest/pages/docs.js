// Draws the OpenAPI document of this server, and makes calls for whoever reads it. All text goes in as text.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const $ = (id) => document.getElementById(id);

/** An element with attributes (functions are listeners) and children; null children are left out. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null));
  return node;
}

/** Text in which `code` stands between backquotes. */
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

// Schemas

let api;

function resolve(schema) {
  return schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function typeOf(schema) {
  const alternatives = schema.anyOf || schema.oneOf;
  if (alternatives) return alternatives.map(typeOf).join(" or ");
  schema = resolve(schema);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return "array of " + (schema.items ? typeOf(schema.items) : "anything");
  if (schema.additionalProperties) return "object, each " + typeOf(schema.additionalProperties);
  const bounds = [schema.minimum, schema.maximum];
  const range = bounds.some((bound) => bound != null) ? ` ${bounds[0] ?? ""}–${bounds[1] ?? ""}` : "";
  const fallback = schema.default != null && schema.default !== "" ? `, else ${JSON.stringify(schema.default)}` : "";
  return (schema.format || schema.type || "anything") + range + fallback;
}

/** The struct that a schema is, or has as its items, values or alternative. */
function structIn(schema) {
  const alternatives = schema.anyOf || schema.oneOf;
  if (alternatives) return alternatives.map(structIn).find(Boolean);
  schema = resolve(schema);
  if (schema.properties) return schema;
  const inner = schema.items || (typeof schema.additionalProperties === "object" && schema.additionalProperties);
  return inner ? structIn(inner) : undefined;
}

/** Rows for all fields; those that must be given are marked where the reader gives them. */
function fieldRows(schema, marked, depth = 0) {
  const struct = structIn(schema);
  if (!struct) return [];
  return Object.entries(struct.properties).flatMap(([name, field]) => {
    const needed = marked && (struct.required || []).includes(name);
    return [
      fieldRow(name, field, field.description, needed, depth),
      ...(depth < 3 ? fieldRows(field, marked, depth + 1) : []),
    ];
  });
}

function fieldRow(name, schema, description, needed, depth = 0) {
  return el(
    "tr",
    {},
    el("td", { class: `depth-${depth}` }, el("code", {}, name), needed ? el("span", { class: "needed" }, " required") : null),
    el("td", {}, typeOf(schema)),
    el("td", {}, prose(description || "")),
  );
}

function table(rows) {
  return rows.length ? el("table", { class: "fields" }, el("tbody", {}, rows)) : null;
}

// Operations

function drawOperation(path, method, operation) {
  const body = operation.requestBody && operation.requestBody.content;
  const parameters = operation.parameters || [];
  return el(
    "details",
    { class: "card", id: operation.operationId },
    el(
      "summary",
      {},
      el("span", { class: `method ${method}` }, method.toUpperCase()),
      el("code", { class: "path" }, path),
      el("span", { class: "title" }, operation.summary || ""),
    ),
    el(
      "div",
      { class: "inside" },
      operation.description ? el("p", {}, prose(operation.description)) : null,
      parameters.length ? el("h3", {}, "Parameters") : null,
      table(parameters.map((each) => fieldRow(each.name, each.schema, each.description, each.required))),
      body ? [el("h3", {}, "Body"), drawBody(body)] : null,
      el("h3", {}, "Answers"),
      Object.entries(operation.responses).map(drawAnswer),
      drawTry(path, method, parameters, body),
    ),
  );
}

function drawBody(content) {
  const [kind, media] = Object.entries(content)[0];
  const others = Object.keys(content).slice(1);
  const note = typeOf(media.schema).startsWith("array") ? "an array of objects" : "an object";
  return [
    el("p", {}, el("code", {}, kind), `: ${note}`, others.map((other) => [", or ", el("code", {}, other), ": one object a line"])),
    table(fieldRows(media.schema, true)),
  ];
}

function drawAnswer([status, response]) {
  const media = Object.values(response.content || {})[0];
  return el(
    "details",
    { class: "answer" },
    el("summary", {}, el("span", { class: "status " + (status < 400 ? "good" : "bad") }, status), el("span", {}, prose(response.description))),
    media ? table(fieldRows(media.schema, false)) : null,
  );
}

// Trying

function drawTry(path, method, parameters, body) {
  const inputs = parameters.map((each) => [each, el("input", { id: `${method}${path}${each.name}`, placeholder: each.in === "path" ? "required" : "" })]);
  const kinds = body ? Object.keys(body) : [];
  const text = body ? el("textarea", { spellcheck: "false", "aria-label": "Body" }) : null;
  const kind = kinds.length > 1 ? el("select", { "aria-label": "Content-Type" }, kinds.map((each) => el("option", {}, each))) : null;
  const command = el("pre", { class: "command" });
  const outcome = el("div", { "aria-live": "polite" });
  const send = el("button", { type: "submit" }, "Send");

  const fill = () => {
    const example = body[kind ? kind.value : kinds[0]].example;
    text.value = typeof example === "string" ? example : JSON.stringify(example, null, 2);
    text.rows = Math.min(text.value.split("\n").length + 1, 16);
    update();
  };
  const request = () => {
    const values = inputs.map(([each, input]) => [each, input.value]);
    const target = path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(values.find(([each]) => each.name === name)[1]));
    const query = new URLSearchParams(values.filter(([each, value]) => each.in === "query" && value).map(([each, value]) => [each.name, value]));
    const headers = {};
    if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
    if (body) headers["Content-Type"] = kind ? kind.value : kinds[0];
    return [target + (String(query) && `?${query}`), { method: method.toUpperCase(), headers, body: text ? text.value : undefined }];
  };
  const update = () => { command.textContent = asCurl(...request()); };

  const form = el(
    "form",
    {
      class: "try",
      autocomplete: "off",
      input: update,
      submit: async (event) => {
        event.preventDefault();
        send.disabled = true;
        outcome.replaceChildren(...(await call(...request())));
        send.disabled = false;
      },
    },
    inputs.map(([each, input]) => el("div", { class: "row" }, el("label", { for: input.id }, el("code", {}, each.name)), input)),
    kind ? el("div", { class: "row" }, el("label", {}, "Content-Type"), kind) : null,
    text ? el("div", { class: "row" }, text) : null,
    send,
    command,
    outcome,
  );
  if (kind) kind.addEventListener("change", fill);
  $("token").addEventListener("input", update);
  if (text) fill();
  else update();
  return form;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function asCurl(target, { method, headers, body }) {
  const words = ["curl"];
  if (method !== (body === undefined ? "GET" : "POST")) words.push("-X", method);
  words.push(quoted(new URL(target, location.origin).href));
  if (headers.Authorization) words.push("-H", '"Authorization: Bearer $TOKEN"');
  if (body !== undefined) words.push("-H", quoted(`Content-Type: ${headers["Content-Type"]}`), "--data-binary", quoted(compact(body)));
  return words.join(" ");
}

function compact(body) {
  try {
    return JSON.stringify(JSON.parse(body));
  } catch {
    return body;
  }
}

/** Make a call; what to show of its outcome. */
async function call(target, options) {
  const begun = performance.now();
  try {
    const response = await fetch(target, options);
    const text = await response.text();
    const took = Math.round(performance.now() - begun);
    return [
      el(
        "p",
        { class: "outcome" },
        el("span", { class: "status " + (response.ok ? "good" : "bad") }, String(response.status)),
        `${response.headers.get("Content-Type") || ""} · ${took} ms`,
      ),
      el("pre", { class: "body" }, pretty(text)),
    ];
  } catch (error) {
    return [el("p", { class: "outcome" }, `The call failed: ${error.message}`)];
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// The page

function draw() {
  $("version").textContent = api.info.version;
  const sections = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((each) => each in operations)) {
      const operation = operations[method];
      const section = (operation.tags || ["Other"])[0];
      if (!sections.has(section)) sections.set(section, []);
      sections.get(section).push([path, method, operation]);
    }
  }
  const main = $("operations");
  main.append(el("p", { class: "about" }, prose(api.info.description), " This page shows ", el("a", { href: "openapi.json" }, "openapi.json"), "."));
  for (const tag of api.tags.map((each) => each.name).filter((name) => sections.has(name))) {
    main.append(el("h2", {}, tag));
    $("contents").append(el("h2", {}, tag));
    for (const [path, method, operation] of sections.get(tag)) {
      main.append(drawOperation(path, method, operation));
      $("contents").append(
        el(
          "a",
          { href: `#${operation.operationId}` },
          el("span", { class: `method ${method}` }, method.toUpperCase()),
          el("span", {}, operation.summary),
        ),
      );
    }
  }
  openNamed();
}

/** Open the operation that the address names. */
function openNamed() {
  const named = location.hash && document.getElementById(location.hash.slice(1));
  if (named) {
    named.open = true;
    named.scrollIntoView();
  }
}

async function start() {
  window.addEventListener("hashchange", openNamed);
  $("sign-in").addEventListener("submit", (event) => event.preventDefault());
  try {
    api = await (await fetch("openapi.json")).json();
  } catch (error) {
    $("operations").append(el("p", {}, `openapi.json cannot be read: ${error.message}`));
    return;
  }
  draw();
}

start();
