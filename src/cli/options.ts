import { shellWord } from "../core/shell-word.ts";
import { TABLE_GLOB, TableSelection } from "../core/table-selection.ts";
import { parseDurationMs } from "../core/values/quantity.ts";
import { cliError } from "./errors.ts";

/** Timers end at 2^31 ms. */
const DURATION_MS_MAX = 24 * 24 * 3_600_000;

/** What a command says of its plan without `--yes`; it exits with `EXIT.refused`. */
export const NOT_DONE = "nothing was done: add --yes to do it";

/** The options of one command, by their long names (`--dry-run`). Wrong values are refused (MR1110). */
export class Options {
  readonly #values: Readonly<Record<string, unknown>>;

  /** As commander names them: `dryRun`. */
  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#value(name) === true;
  }

  text(name: string): string | null {
    const value = this.#value(name);
    return typeof value === "string" ? value : null;
  }

  texts(name: string): readonly string[] {
    const value = this.#value(name);
    return Array.isArray(value) ? value.map(String) : [];
  }

  durationMs(name: string): number {
    const ms = parseDurationMs(this.text(name) ?? "");
    if (ms === undefined) throw cliError("MR1110", `${name}: expected a duration such as 500ms, 10s, 5m, 1h`);
    if (ms > DURATION_MS_MAX) throw cliError("MR1110", `${name}: expected at most 24 days`);
    return ms;
  }

  /** A whole number of at least 1. */
  count(name: string): number {
    return countOf(name, this.text(name));
  }

  /** The globs of `--tables`; an empty list if the option is missing. */
  tableGlobs(): readonly string[] {
    const globs = this.texts("--tables");
    const wrong = globs.find((glob) => !TABLE_GLOB.test(glob));
    if (wrong === undefined) return globs;
    throw cliError("MR1110", `--tables: ${JSON.stringify(wrong)} is not schema.table; * is a wildcard, ! excludes`, {
      hint: listHint([wrong]) ?? CAPTURED.where,
    });
  }

  #value(name: string): unknown {
    return this.#values[name.slice(2).replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())];
  }
}

/** A whole number of at least 1. `what` names the option or argument. */
export function countOf(what: string, text: string | null | undefined): number {
  if (text == null || !/^[1-9]\d{0,14}$/.test(text))
    throw cliError("MR1110", `${what}: expected a whole number of at least 1`);
  return Number(text);
}

export const CAPTURED = {
  what: "captured table",
  where: "`millrace status --tables` lists the captured tables",
} as const;

/** Refuses those of `--tables` that fit none of these tables, and all of them if they leave none. */
export function mustFit(
  globs: readonly string[],
  tables: readonly { readonly schema: string; readonly table: string }[],
  { what, where }: { readonly what: string; readonly where: string },
): void {
  const selection = new TableSelection(globs);
  const idle = selection.idle(tables).filter((glob) => !glob.startsWith("!"));
  const isLeft = tables.some(({ schema, table }) => selection.matches(schema, table));
  if (isLeft && idle.length === 0) return;
  const unfit = idle.length === 0 ? globs : idle;
  throw cliError("MR1110", `--tables: no ${what} matches ${unfit.join(" ")}`, { hint: listHint(unfit) ?? where });
}

/** Null: they hold no list. */
function listHint(globs: readonly string[]): string | null {
  const list = globs.find((glob) => glob.includes(","));
  if (list === undefined) return null;
  const parts = list.split(",").map((part) => part.trim());
  return `name several tables with spaces between them, or repeat the option: --tables ${parts.map(shellWord).join(" ")}`;
}

interface Named {
  readonly name: string;
}

/** The sinks as `status` lists them: with the one that holds the rows which documents are made of. */
export function withNest<S extends Named>(place: {
  readonly sinks: readonly S[];
  readonly nestSink: S | null;
}): { readonly sinks: readonly S[] } {
  return { sinks: place.nestSink === null ? place.sinks : [...place.sinks, place.nestSink] };
}

/** Names of the chosen sinks: the one of `--sink`, or all. */
export function chosenSinks(
  { sinks, nestSink = null }: { readonly sinks: readonly Named[]; readonly nestSink?: Named | null },
  sink: string | null,
): readonly string[] {
  const names = sinks.map(({ name }) => name);
  if (sink === null) return names;
  if (names.includes(sink)) return [sink];
  if (sink === nestSink?.name) {
    const hint = `Fill it again: millrace snapshot start --sink ${sink}`;
    throw cliError("MR1127", `sink ${sink} is Millrace's own: it holds the rows that documents are made of`, { hint });
  }
  throw cliError("MR1110", `there is no sink ${JSON.stringify(sink)}; the sinks are: ${names.join(", ")}`);
}
