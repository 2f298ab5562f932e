/** The demo's options. */
import { parseArgs } from "node:util";

import { SOURCES, type SourceName } from "./sources.ts";

export const SINKS = ["warehouse", "replica", "search", "cache"] as const;
export type SinkName = (typeof SINKS)[number];

export interface DemoOptions {
  readonly source: SourceName;
  readonly without: readonly SinkName[];
  /** What lies between capturing and applying. */
  readonly through: "kafka" | null;
  /** Leave everything running after the comparison, until Ctrl-C. */
  readonly keep: boolean;
  /** How long the writer changes rows. */
  readonly seconds: number;
  /** About how many rows the shop has before the first change. */
  readonly rows: number;
}

export const USAGE = `usage: npm run demo -- [options]
  --source NAME    where the shop is: ${SOURCES.join(", ")} (default ${SOURCES[0]})
  --without NAME   leave a sink out: ${SINKS.join(", ")} (may be given more than once)
  --through kafka  one daemon captures into Kafka, two apply from it
  --seconds N      how long rows are changed (default 30, at least 6)
  --rows N         rows in the shop to begin with (default 120000, at least 1000)
  --keep           leave everything running at the end, until Ctrl-C
`;

const SECONDS = { standard: 30, least: 6, most: 3_600 };
const ROWS = { standard: 120_000, least: 1_000, most: 10_000_000 };

/** Throws with a sentence for people. */
export function readOptions(args: readonly string[]): DemoOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      source: { type: "string", default: SOURCES[0] },
      without: { type: "string", multiple: true },
      through: { type: "string" },
      keep: { type: "boolean", default: false },
      seconds: { type: "string" },
      rows: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  return {
    source: sourceName(values.source),
    without: (values.without ?? []).flatMap((names) => names.split(",")).map(sinkName),
    through: throughName(values.through),
    keep: values.keep,
    seconds: readNumber("--seconds", values.seconds, SECONDS),
    rows: readNumber("--rows", values.rows, ROWS),
  };
}

function sourceName(text: string): SourceName {
  const name = SOURCES.find((known) => known === text);
  if (name === undefined) throw new Error(`--source ${text}: the sources are ${SOURCES.join(", ")}`);
  return name;
}

function throughName(text: string | undefined): "kafka" | null {
  if (text !== undefined && text !== "kafka") throw new Error(`--through ${text}: kafka is all that it knows`);
  return text ?? null;
}

function sinkName(text: string): SinkName {
  const name = SINKS.find((known) => known === text);
  if (name === undefined) throw new Error(`--without ${text}: the sinks are ${SINKS.join(", ")}`);
  return name;
}

interface Range {
  readonly standard: number;
  readonly least: number;
  readonly most: number;
}

function readNumber(option: string, text: string | undefined, { standard, least, most }: Range): number {
  if (text === undefined) return standard;
  const number = Number(text);
  if (!Number.isInteger(number) || number < least || number > most)
    throw new Error(`${option} ${text}: expected a whole number from ${least} to ${most}`);
  return number;
}
