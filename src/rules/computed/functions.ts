/**
 * Functions of the user's own, out of TypeScript or JavaScript modules that the configuration names (`./rules.ts#fullName`).
 * Node runs TypeScript as it is. A module is loaded once, at the start; its text and that of all that it imports make the
 * function's digest, so that a change of any of them is a change of the rules.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire, registerHooks } from "node:module";
import { relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { WrongResult } from "./results.ts";

/** As the configuration names it; `path` is absolute. */
export interface FunctionName {
  readonly text: string;
  readonly path: string;
  readonly export: string;
  /** The configuration's folder. */
  readonly base: string;
}

export interface LoadedFunction {
  readonly name: FunctionName;
  readonly call: (input: unknown) => unknown;
  /** What places in errors are relative to: the configuration's folder, by its real path. */
  readonly root: string;
  /** Changes with the text of its module, and of all that this imports. */
  readonly digest: string;
}

/** Why a function can't be used. Its message has no values. */
export class FunctionFault extends Error {
  readonly fix: string;

  constructor(message: string, fix: string) {
    super(message);
    this.name = "FunctionFault";
    this.fix = fix;
  }
}

const NAME = /^(.+)#([A-Za-z_$][\w$]*)$/s;
const ENDINGS = /\.[cm]?[jt]s$/;
const require = createRequire(import.meta.url);

/** Throws a FunctionFault. `base`: the folder that the path is relative to. */
export function functionName(text: string, base: string): FunctionName {
  const [, file, name] = NAME.exec(text) ?? [];
  if (file === undefined || name === undefined || !ENDINGS.test(file))
    throw new FunctionFault(
      "it is no name of a function",
      "Write a file and an export of it, such as ./rules.ts#fullName.",
    );
  return { text, path: resolve(base, file), export: name, base };
}

/** Throws a FunctionFault if there is no such function, or no such file, or the file can't be loaded. */
export function loadFunction(name: FunctionName): LoadedFunction {
  const module = loadModule(name);
  const found = Object.hasOwn(module, name.export) ? module[name.export] : undefined;
  if (found === undefined) {
    const others = Object.keys(module).filter((key) => typeof module[key] === "function");
    const known = others.length === 0 ? "it exports no function" : `it exports ${others.join(", ")}`;
    throw new FunctionFault(
      `${shown(name)} has no export ${name.export}`,
      `Export it there, or correct the name: ${known}.`,
    );
  }
  if (typeof found !== "function")
    throw new FunctionFault(`${name.export} in ${shown(name)} is no function`, "Export a function under that name.");
  const kind = Object.getPrototypeOf(found) === Function.prototype ? null : found.constructor.name;
  if (kind !== null && /Async|Generator/.test(kind))
    throw new FunctionFault(
      `${name.export} in ${shown(name)} is ${kind.startsWith("Async") ? "async" : "a generator"}`,
      "Write a plain function that returns its value: it is called for each row, and waits for nothing.",
    );
  const call = found;
  return { name, call: (input) => call(input), root: realpathSync(name.base), digest: digestOf(urlOf(name)) };
}

/** By `FunctionName.text`. */
export type Functions = ReadonlyMap<string, LoadedFunction | FunctionFault>;

/** What can't be loaded is kept with its fault: only the tables that need it are concerned. */
export function loadFunctions(names: readonly FunctionName[]): Functions {
  const functions = new Map<string, LoadedFunction | FunctionFault>();
  for (const name of names) {
    if (functions.has(name.text)) continue;
    try {
      functions.set(name.text, loadFunction(name));
    } catch (error) {
      if (!(error instanceof FunctionFault)) throw error;
      functions.set(name.text, error);
    }
  }
  return functions;
}

/** The modules that were loaded for functions, by URL: what Node keeps, it keeps for the life of the process. */
const modules = new Map<string, { digest: string | null; readonly imports: Set<string> }>();

function loadModule(name: FunctionName): Readonly<Record<string, unknown>> {
  if (!existsSync(name.path))
    throw new FunctionFault(
      `there is no file ${shown(name)}`,
      "Correct the path: it is relative to the configuration's file.",
    );
  const entry = urlOf(name);
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      const parent = context.parentURL === undefined ? undefined : modules.get(context.parentURL);
      if (found.url === entry || parent !== undefined) noted(found.url);
      parent?.imports.add(found.url);
      return found;
    },
    load(url, context, next) {
      const loaded = next(url, context);
      const module = modules.get(url);
      if (module !== undefined) module.digest = sourceDigest(url, loaded.source);
      return loaded;
    },
  });
  try {
    // It loads modules of both forms at once, so that none can make the start wait.
    const module: unknown = require(fileURLToPath(entry));
    return typeof module === "object" && module !== null ? Object.fromEntries(Object.entries(module)) : {};
  } catch (error) {
    throw unloadable(name, error);
  } finally {
    hooks.deregister();
  }
}

function noted(url: string): void {
  if (!modules.has(url)) modules.set(url, { digest: null, imports: new Set() });
}

function sourceDigest(url: string, source: unknown): string {
  const hash = createHash("sha256");
  if (typeof source === "string" || source instanceof Uint8Array) return hash.update(source).digest("hex");
  // Node reads modules of the older form by itself.
  return url.startsWith("file:") ? hash.update(readFileSync(fileURLToPath(url))).digest("hex") : url;
}

/** Of a module and of all that it imports, wherever these lie. */
function digestOf(entry: string): string {
  const seen = new Set<string>();
  const digests: string[] = [];
  const visit = (url: string): void => {
    const module = modules.get(url);
    if (seen.has(url) || module === undefined) return;
    seen.add(url);
    digests.push(module.digest ?? url);
    module.imports.forEach(visit);
  };
  visit(entry);
  const [own, ...imported] = digests;
  return createHash("sha256")
    .update(JSON.stringify([own, ...imported.toSorted()]))
    .digest("hex");
}

/** Node names a module by its real path. */
function urlOf({ path }: FunctionName): string {
  return pathToFileURL(realpathSync(path)).href;
}

function shown({ path, base }: FunctionName): string {
  return relative(base, path);
}

/** Errors of Node about the text of a module: they quote nothing but this text. */
const ABOUT_TEXT = new Set([
  "ERR_MODULE_NOT_FOUND",
  "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX",
  "ERR_INVALID_TYPESCRIPT_SYNTAX",
]);

function unloadable(name: FunctionName, error: unknown): FunctionFault {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const isOfText = error instanceof SyntaxError || ABOUT_TEXT.has(code);
  const at = placeOf(error, realpathSync(name.base));
  const what =
    isOfText && error instanceof Error ? `: ${oneLine(error.message, name)}` : `: ${classOf(error)} was thrown`;
  const fix =
    code === "ERR_REQUIRE_ASYNC_MODULE"
      ? "Take out its `await`: a module of functions only declares them."
      : code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX"
        ? "Node only takes types away: write enums, namespaces and parameter properties as plain JavaScript."
        : "Correct the file; `node FILE` shows the whole error. What is only a type is imported by `import type`.";
  return new FunctionFault(`${shown(name)} can't be loaded${at === null ? "" : `, at ${at}`}${what}`, fix);
}

function oneLine(message: string, { base }: FunctionName): string {
  return message.split("\n")[0]!.replaceAll(`${base}/`, "");
}

const FRAME = /(file:\/\/[^\s()]+?|(?<=^|[\s(])\/[^():\n]+):(\d+)(?::(\d+))?(?=[\s)]|$)/gm;

/** Where in the user's modules an error was thrown, such as `rules.ts:12:9`: nothing else of its text is passed on. */
function placeOf(error: unknown, root: string): string | null {
  for (const [, file, line, column] of stackOf(error).matchAll(FRAME)) {
    const url = file!.startsWith("file:") ? file! : pathToFileURL(file!).href;
    if (modules.has(url))
      return `${relative(root, fileURLToPath(url))}:${line}${column === undefined ? "" : `:${column}`}`;
  }
  return null;
}

function stackOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.stack) : "";
  } catch {
    return "";
  }
}

/** With its article, for a sentence. A name that may hold a value is not passed on. */
function classOf(error: unknown): string {
  if (!(error instanceof Error)) return "a value that is no Error";
  const name: unknown = Object.getPrototypeOf(error)?.constructor?.name;
  if (typeof name !== "string" || !/^[A-Za-z_$][\w$]{0,60}$/.test(name)) return "an Error";
  return `${/^[AEIOU]/.test(name) ? "an" : "a"} ${name}`;
}

/** Of a call, on average, unless the configuration says more. */
export const BUDGET_MS = 1;
const FAILURE_LENGTH_MAX = 300;
/** One call of so many is timed: looking at the clock costs as much as a short function. */
const TIMED_EVERY = 16;
/** The average is of about so many timed calls. */
const AVERAGED_COUNT = 64;

/** A function of the user's with the time that its calls take. */
export class TimedFunction {
  readonly #loaded: LoadedFunction;
  readonly budgetMs: number;
  #callCount = 0;
  #timedCount = 0;
  #averageMs = 0;

  constructor(loaded: LoadedFunction, budgetMs: number) {
    this.#loaded = loaded;
    this.budgetMs = budgetMs;
  }

  /** As the configuration names it. */
  get text(): string {
    return this.#loaded.name.text;
  }

  /** Average of a call in milliseconds, if that is beyond the budget. */
  get slowMs(): number | null {
    const isKnown = this.#timedCount >= TIMED_EVERY;
    return isKnown && this.#averageMs > this.budgetMs ? this.#averageMs : null;
  }

  call(input: unknown): unknown {
    const count = ++this.#callCount;
    if (count > TIMED_EVERY && count % TIMED_EVERY !== 0) return this.#loaded.call(input);
    const begunMs = performance.now();
    try {
      return this.#loaded.call(input);
    } finally {
      const weight = 1 / Math.min(++this.#timedCount, AVERAGED_COUNT);
      this.#averageMs += (performance.now() - begunMs - this.#averageMs) * weight;
    }
  }

  /** Only where it failed is told, and the error's class: its message may hold values of the row. */
  failure(error: unknown): string {
    if (error instanceof WrongResult) return `${this.text} ${error.message}`.slice(0, FAILURE_LENGTH_MAX);
    const place = placeOf(error, this.#loaded.root);
    const at = place === null ? "" : ` at ${place}`;
    return `${this.text} threw ${classOf(error)}${at}`.slice(0, FAILURE_LENGTH_MAX);
  }
}
