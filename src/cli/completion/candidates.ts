/**
 * Candidates for a half-typed command line. They come from commander's own tree, so new verbs and options need no line
 * here. A library does not do better: `@bomb.sh/tab` 0.0.22 runs the half-typed line through `eval`, and does not know the
 * options that all commands share.
 */
import { resolve } from "node:path";
import type { Argument, Command, Option } from "commander";
import { SINK_NAME } from "../../config/definition.ts";
import { YamlFile } from "../../config/document.ts";
import { readSmallFile } from "../../core/files.ts";
import { errorPages } from "../../ops/error-pages.ts";

export interface Candidate {
  readonly value: string;
  readonly text: string;
}

interface Candidates {
  readonly candidates: readonly Candidate[];
  /** Whether the shell adds its own completion of files. */
  readonly withFiles: boolean;
}

interface Values {
  readonly values: readonly Candidate[];
  readonly withFiles?: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

const FILE_BYTES_MAX = 1024 * 1024;

/** Fixed words for options and arguments to which commander accepts any value. */
const PLACES: Readonly<Record<string, readonly string[]>> = {
  "--to": ["earliest", "latest", "snapshot"],
  "--from": ["earliest"],
};

/** `words` are the words after `millrace`, as the shell splits them; the last one is being typed. */
export function candidatesOf(program: Command, words: readonly string[], environment: Environment): Candidates {
  const typed = words.at(-1) ?? "";
  const line = new TypedLine(program);
  // An empty argument says nothing about the next one.
  for (const word of words.slice(0, -1)) if (word !== "") line.read(word);
  const { values, withFiles = false, lead = "", rest = typed } = next(line, typed, environment);
  const fitting = values.filter(({ value }) => value.startsWith(rest));
  return { candidates: fitting.map(({ value, text }) => ({ value: lead + value, text })), withFiles };
}

/** `lead` is the start of the typed word up to the value: `--sink=`. */
function next(line: TypedLine, typed: string, environment: Environment): Values & { lead?: string; rest?: string } {
  const values = (option: Option) => optionValues(option, line.config ?? environment["MILLRACE_CONFIG"]);
  const { pending } = line;
  // Bash splits `--sink=cache` into three words and completes only the last one.
  if (pending !== null && typed === "=") return { ...values(pending), rest: "" };
  if (pending !== null && !(pending.variadic && typed.startsWith("-"))) return values(pending);
  if (line.isOptionsOver || !typed.startsWith("-")) return argumentValues(line);
  const [flag, value] = splitAtEquals(typed);
  const option = value === undefined ? undefined : line.option(flag);
  if (option !== undefined) return { ...values(option), lead: `${flag}=`, rest: value ?? "" };
  return { values: optionNames(line) };
}

/** The words before the typed one, parsed as commander parses them. */
class TypedLine {
  command: Command;
  /** The parent command. */
  above: Command;
  /** The option that the next word is, or may be, a value of. */
  pending: Option | null = null;
  config: string | undefined;
  isOptionsOver = false;
  argumentCount = 0;
  readonly #program: Command;
  readonly given = new Set<Option>();

  constructor(program: Command) {
    this.command = program;
    this.above = program;
    this.#program = program;
  }

  read(word: string): void {
    const { pending } = this;
    if (pending !== null && word === "=") return;
    if (pending !== null && !(pending.variadic && word.startsWith("-"))) {
      if (pending.long === "--config") this.config = unquoted(word);
      if (!pending.variadic) this.pending = null;
      return;
    }
    this.pending = null;
    if (word === "--" && !this.isOptionsOver) this.isOptionsOver = true;
    else if (word.startsWith("-") && !this.isOptionsOver) this.#readOption(word);
    else this.#readArgument(word);
  }

  #readOption(word: string): void {
    const [flag, value] = splitAtEquals(word);
    const option = this.option(flag);
    if (option === undefined) return;
    this.given.add(option);
    if (value === undefined) this.pending = option.required || option.optional ? option : null;
    else if (option.long === "--config") this.config = unquoted(value);
  }

  #readArgument(word: string): void {
    const command = this.argumentCount > 0 ? undefined : verbs(this.command).find((verb) => verb.name() === word);
    if (command === undefined) this.argumentCount++;
    else {
      this.above = this.command;
      this.command = command;
    }
  }

  /** The options of this command and the global ones. */
  get options(): readonly Option[] {
    const own = this.command.createHelp().visibleOptions(this.command);
    if (this.command === this.#program) return own;
    // Only the program itself has `--version`.
    return [...own, ...this.#program.options.filter(({ long }) => long !== "--version")];
  }

  option(flag: string): Option | undefined {
    return this.options.find(({ long, short }) => long === flag || short === flag);
  }
}

function argumentValues(line: TypedLine): Values {
  const { command, argumentCount } = line;
  const below = argumentCount === 0 ? verbs(command) : [];
  if (below.length > 0) return { values: below.map((verb) => ({ value: verb.name(), text: verb.description() })) };
  // `help` is commander's own command: its argument is the name of a command.
  if (command.name() === "help" && argumentCount === 0) {
    const others = verbs(line.above).filter((verb) => verb.name() !== "help");
    return { values: others.map((verb) => ({ value: verb.name(), text: verb.description() })) };
  }
  const { registeredArguments: known } = command;
  const argument = known[argumentCount] ?? (known.at(-1)?.variadic === true ? known.at(-1) : undefined);
  if (argument !== undefined) return namedValues(argument);
  return { values: known.length === 0 ? optionNames(line) : [] };
}

function namedValues(argument: Argument): Values {
  if (argument.argChoices !== undefined) return { values: plain(argument.argChoices) };
  if (argument.name() === "code")
    return { values: errorPages().map(({ code, title }) => ({ value: code, text: title })) };
  return { values: [], withFiles: argument.name() === "file" };
}

function optionValues(option: Option, config = "millrace.yaml"): Values {
  if (option.argChoices !== undefined) return { values: plain(option.argChoices) };
  if (option.long === "--sink" && option.flags.includes("<name>")) return { values: plain(sinkNames(config)) };
  return { values: plain(PLACES[option.long ?? ""] ?? []), withFiles: /<(file|folder)>/.test(option.flags) };
}

/** The sinks of the config file; none if it can't be read, because completion should not print errors. */
function sinkNames(configFile: string): readonly string[] {
  try {
    const config = new YamlFile(readSmallFile(resolve(configFile), FILE_BYTES_MAX)).value();
    if (typeof config !== "object" || config === null || !("sinks" in config)) return [];
    return Object.keys(config.sinks ?? {}).filter((name) => SINK_NAME.test(name));
  } catch {
    return [];
  }
}

function optionNames(line: TypedLine): readonly Candidate[] {
  const open = line.options.filter((option) => option.variadic || !line.given.has(option));
  return open.map((option) => ({ value: option.long ?? option.flags, text: option.description }));
}

function verbs(command: Command): readonly Command[] {
  return command.createHelp().visibleCommands(command);
}

function plain(values: readonly string[]): readonly Candidate[] {
  return values.map((value) => ({ value, text: "" }));
}

function splitAtEquals(word: string): readonly [string, string?] {
  const at = word.indexOf("=");
  return word.startsWith("--") && at > 0 ? [word.slice(0, at), word.slice(at + 1)] : [word];
}

/** Removes quotes: Bash passes words as they were typed. */
function unquoted(word: string): string {
  return word.replace(/^(["'])(.*)\1$/, "$2");
}
