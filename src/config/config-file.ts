/** One configuration while it is read: its texts with their variables filled in, and everything that is wrong in it, with its line. */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type * as z from "zod";
import { readSmallFile } from "../core/files.ts";
import type { Config, Exposure } from "./config.ts";
import { YamlFile } from "./document.ts";
import type { Login } from "../core/errors.ts";
import { ConfigError, type Problem } from "./errors.ts";
import { problemsOf } from "./issues.ts";
import { parse } from "./parse.ts";
import { Logins } from "./secrets/logins.ts";
import { isSecretName, PUBLIC_NAMES, type Secrets, urlSecrets } from "./secrets/secrets.ts";

const FILE_BYTES_MAX = 16 * 1024 * 1024;

export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Receives every secret of the file, even when loading fails. */
  readonly secrets: Secrets;
}

export class ConfigFile {
  /** As the user named it. */
  readonly name: string;
  /** Where relative paths begin. */
  readonly folder: string;
  readonly #yaml: YamlFile;
  readonly #surroundings: Surroundings;
  readonly #problems: Problem[] = [];
  readonly #logins = new Logins();
  /** Of a value there are no lines that somebody could look at, and nobody else can read it. */
  readonly #isFile: boolean;
  #holdsSecret = false;

  private constructor(name: string, folder: string, yaml: YamlFile, surroundings: Surroundings, isFile: boolean) {
    this.name = name;
    this.folder = folder;
    this.#yaml = yaml;
    this.#surroundings = surroundings;
    this.#isFile = isFile;
  }

  static read(file: string, surroundings: Surroundings): ConfigFile {
    const path = resolve(file);
    return new ConfigFile(file, dirname(path), readYaml(file, path), surroundings, true);
  }

  /** Of a value that a program has made, whose texts count as they are: `${…}` in them refers to nothing. */
  static of(value: object, name: string, surroundings: Surroundings): ConfigFile {
    const literal = (_key: string, part: unknown): unknown =>
      typeof part === "string" ? part.replaceAll("${", "$${") : part;
    return new ConfigFile(name, process.cwd(), new YamlFile(JSON.stringify(value, literal)), surroundings, false);
  }

  get digest(): string {
    return configDigest(this.#yaml.text);
  }

  /** Once the variables are filled in. */
  exposure(path: string): Exposure | null {
    return this.#isFile ? exposureOf(path, this.#holdsSecret) : null;
  }

  loginOf(section: readonly string[]): Login {
    return this.#logins.of(section);
  }

  /**
   * Fills the variables in. `isNeeded`: where nothing may be missing. Returns the paths of other texts that lack something: they
   * stay as they are.
   */
  interpolate(isNeeded: (path: readonly string[]) => boolean): readonly (readonly string[])[] {
    this.#problems.push(...this.#yaml.problems());
    this.stopIfWrong();
    const lacking: (readonly string[])[] = [];
    const { environment, secrets } = this.#surroundings;
    this.#yaml.mapText((text, path) => {
      this.#holdsSecret ||= holdsSecret(path, text);
      const result = interpolate(text, { environment, folder: this.folder });
      if (result.problems.length > 0 && !isNeeded(path)) {
        lacking.push(path);
        return text;
      }
      for (const message of result.problems) this.problem("MR1007", path, message);
      if (UNCHECKED.has(keyOf(path)) && BARE_NAME.test(text)) this.problem("MR1007", path, NO_REFERENCE);
      registerSecrets(secrets, path, result.text, result.inserted);
      this.#logins.add(path, result.text, result.references);
      return result.text;
    });
    this.stopIfWrong();
    return lacking;
  }

  value(): unknown {
    try {
      return this.#yaml.value();
    } catch (error) {
      // A few lines of YAML can expand to terabytes.
      const message = "not valid YAML: its aliases unfold to too much";
      throw new ConfigError(this.name, [{ code: "MR1002", path: [], message, line: 1, column: 1 }], error);
    }
  }

  /** Undefined: it does not fit, and the problems say why. */
  parse<D extends z.ZodType>(path: readonly string[], input: unknown, definition: D): z.output<D> | undefined {
    const result = parse(definition, input);
    if (result.success) return result.data;
    this.addIssues(path, input, definition, result.error.issues);
    return undefined;
  }

  addIssues(
    base: readonly string[],
    input: unknown,
    definition: z.ZodType,
    issues: readonly z.core.$ZodIssue[],
    alsoKnown: readonly string[] = [],
  ): void {
    const locate = (path: readonly string[], part: "key" | "value") => this.#yaml.locate(path, part);
    this.#problems.push(...problemsOf(issues, { base, input, definition, alsoKnown, locate }));
  }

  problem(code: Problem["code"], path: readonly string[], message: string, part: "key" | "value" = "value"): void {
    this.#problems.push({ code, path, message, ...this.#yaml.locate(path, part) });
  }

  /** Keys that would do nothing beside the others. */
  refuseGiven(path: readonly string[], input: object, keys: readonly string[], why: string): void {
    for (const key of keys) if (Object.hasOwn(input, key)) this.problem("MR1005", [...path, key], why, "key");
  }

  get hasProblems(): boolean {
    return this.#problems.length > 0;
  }

  /** Reports all problems at once, so that the user need not start the daemon once per typo. */
  stopIfWrong(): void {
    const [first, ...rest] = this.#problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
    if (first === undefined) return;
    const shown = (problem: Problem): Problem => (this.#isFile ? problem : { ...problem, line: null, column: null });
    throw new ConfigError(this.name, [shown(first), ...rest.map(shown)]);
  }

  locate(path: readonly string[]): ReturnType<YamlFile["locate"]> {
    return this.#yaml.locate(path, "value");
  }

  /** `item`: the position of an item of the list, which has no name. */
  place(path: readonly string[], item?: string): string {
    const { line, column } =
      item === undefined ? this.#yaml.locate(path, "key") : this.#yaml.locate([...path, item], "value");
    return `${this.name}:${line}:${column}: ${path.join(".")}`;
  }
}

/** Since when the file says something else than the config that was read from it; null: it says the same, or can't be read. */
export function configChangedAt({ file, digest }: Pick<Config, "file" | "digest">): string | null {
  try {
    return configDigest(readSmallFile(file, FILE_BYTES_MAX)) === digest ? null : statSync(file).mtime.toISOString();
  } catch {
    return null;
  }
}

function configDigest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function readYaml(file: string, path: string): YamlFile {
  try {
    return new YamlFile(readSmallFile(path, FILE_BYTES_MAX));
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    const message = reason === "ENOENT" ? "there is no such config file" : `the config file can't be read (${reason})`;
    throw new ConfigError(file, [{ code: "MR1001", path: [], message, line: null, column: null }], error);
  }
}

/** The keys of the file that the definition has. */
export function only(input: unknown, { shape }: z.ZodObject): object {
  return Object.fromEntries(isMap(input) ? Object.entries(input).filter(([key]) => Object.hasOwn(shape, key)) : []);
}

export function sectionOf(input: unknown, key: string): object | undefined {
  const section: unknown = isMap(input) ? Object.getOwnPropertyDescriptor(input, key)?.value : undefined;
  return isMap(section) ? section : undefined;
}

export function isMap(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const READ_BY_OTHERS = 0o044;
const WRITTEN_BY_OTHERS = 0o022;
const WRITTEN_BY_ALL = 0o002;

/** Only the owner may read a file with a password. A file that everybody can write decides where passwords are sent. */
function exposureOf(path: string, holdsSecret: boolean): Exposure | null {
  // Windows does not use these permissions.
  if (process.platform === "win32") return null;
  const mode = statSync(path).mode & 0o777;
  const fix = `chmod 600 '${path}'`;
  const spelt = `mode 0${mode.toString(8)}`;
  if (holdsSecret && (mode & (READ_BY_OTHERS | WRITTEN_BY_OTHERS)) !== 0) {
    const may = (mode & WRITTEN_BY_OTHERS) === 0 ? "read" : "change";
    return { what: `${path} holds a password, and others than its owner may ${may} it (${spelt})`, fix };
  }
  if ((mode & WRITTEN_BY_ALL) === 0) return null;
  return { what: `every user of this machine may change ${path} (${spelt})`, fix };
}

/** Keys whose whole URL is a secret: everybody who knows it can post there. */
const SECRET_URLS = new Set(["webhook"]);

/** Whether a value in the file is itself a password, and not the name of a variable or file that holds it. */
function holdsSecret(path: readonly string[], text: string): boolean {
  const literal = text.replaceAll(/\$\{[^}]*\}/g, "");
  const key = keyOf(path);
  if (isSecretName(key) || SECRET_URLS.has(key) || path.at(-2) === "headers") return literal !== "";
  return urlSecrets(literal).some((secret) => secret !== "");
}

/**
 * Registers the secrets in one value of the config: passwords in URLs, values of keys that are named like secrets, and
 * everything else that comes from a variable or a secret file.
 */
function registerSecrets(secrets: Secrets, path: readonly string[], text: string, inserted: readonly string[]): void {
  const key = keyOf(path);
  if (isSecretName(key) || path.at(-2) === "headers") secrets.add(text);
  if (SECRET_URLS.has(key) && URL.canParse(text)) addWhole(secrets, new URL(text));
  if (text.includes("://")) {
    secrets.addFromUrl(text);
    // In a valid URL, host, port and database are not secret. In an invalid one anything may be.
    if (URL.canParse(text)) return;
  }
  if (!PUBLIC_NAMES.has(key)) for (const value of inserted) secrets.add(value);
}

/** Secrets of Millrace's own, of which no server says that they are wrong. */
const UNCHECKED = new Set(["maskKey", "token"]);
/** As shells and other tools refer to variables. Everybody may know the name. */
const BARE_NAME = /^(\$[A-Z_][A-Z0-9_]*|%\w+%|\{\{.*\}\})$/s;
const NO_REFERENCE = "this is the name of a variable and not its value; write ${NAME}";

function keyOf(path: readonly string[]): string {
  return path.findLast((name) => !/^\d+$/.test(name)) ?? "";
}

/** Also without host and user, as the URL appears in a request line. */
function addWhole(secrets: Secrets, { href, pathname, search }: URL): void {
  for (const part of [href, `${pathname}${search}`, pathname]) if (part.length > 1) secrets.add(part);
}

const SECRET_BYTES_MAX = 64 * 1024;

/** Where references lead. */
interface Referred {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The folder of relative secret files. */
  readonly folder: string;
}

interface Interpolated {
  readonly text: string;
  /** The values of variables and files. */
  readonly inserted: readonly string[];
  /** The references to them, as the file has them. */
  readonly references: readonly string[];
  readonly problems: readonly string[];
}

const REFERENCE = /\$\$\{|\$\{([^}]*)\}?/g;

/** Replaces `${VAR}`, `${VAR:-default}` and `${file:PATH}`; `$${` stands for a literal `${`. One pass, no nesting. */
function interpolate(text: string, referred: Referred): Interpolated {
  const inserted: string[] = [];
  const references: string[] = [];
  const problems: string[] = [];
  const result = text.replace(REFERENCE, (whole: string, body: string | undefined) => {
    if (whole === "$${") return "${";
    const value = whole.endsWith("}") ? lookUp(body ?? "", referred) : { problem: `"\${" without its "}"` };
    if ("problem" in value) problems.push(value.problem);
    else {
      inserted.push(value.text);
      references.push(`\${${(body ?? "").replace(/:-.*$/s, "")}}`);
    }
    return "text" in value ? value.text : "";
  });
  return { text: result, inserted, references, problems };
}

type Interpolation = { readonly text: string } | { readonly problem: string };

function lookUp(body: string, { environment, folder }: Referred): Interpolation {
  if (body.startsWith("file:")) return readSecret(resolve(folder, body.slice("file:".length)));
  const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/s.exec(body);
  if (match === null || body.includes("${"))
    return {
      problem: `"\${${body}}" is not \${VAR}, \${VAR:-default} or \${file:PATH}; write "$\${" for a literal "\${"`,
    };
  const [, name = "", fallback] = match;
  const value = environment[name];
  // As in a shell, an empty variable counts as unset.
  if (value !== undefined && value !== "") return { text: value };
  if (fallback !== undefined) return { text: fallback };
  return { problem: `the environment variable ${name} is ${value === undefined ? "not set" : "empty"}` };
}

function readSecret(path: string): Interpolation {
  try {
    const text = readSmallFile(path, SECRET_BYTES_MAX).replace(/\r?\n$/, "");
    return text === "" ? { problem: `the secret file ${path} is empty` } : { text };
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    return { problem: `the secret file ${path} can't be read (${reason})` };
  }
}
