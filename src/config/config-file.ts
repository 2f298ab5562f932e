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
import { exposureOf } from "./secrets/exposure.ts";
import { interpolate } from "./secrets/interpolate.ts";
import { Logins } from "./secrets/logins.ts";
import { holdsSecret, registerSecrets } from "./secrets/secret-values.ts";
import type { Secrets } from "./secrets/secrets.ts";

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
