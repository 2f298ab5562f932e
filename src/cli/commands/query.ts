import { count } from "../../core/figures.ts";
import type { SinkConfig } from "../../config/config.ts";
import type { Place } from "../../config/load.ts";
import { isAborted } from "../../core/errors.ts";
import type { QueryRequest, QueryResult } from "../../core/contracts/sink.ts";
import { invariant } from "../../core/invariant.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { tableText } from "../table.ts";

const BYTES_MAX = 16 * 1024 * 1024;
/** Extra time for the daemon to report that the time is up. */
const ANSWER_MS = 10_000;

export function addQuery({ program, action }: CommandLine): void {
  program
    .command("query <sql>")
    .description("read-only SQL on a DuckDB, DuckLake or SQLite sink, also while a daemon runs")
    .option("--sink <name>", "the sink to ask, where there are several")
    .option("--limit <count>", "rows to print at most", "1000")
    .option("--timeout <duration>", "how long it may take", "30s")
    .action(
      action("one", async (session, options, [sql = ""]) => {
        const place = await session.place();
        const name = await nameOf(place, options.text("--sink"));
        const [sink] = await session.sinks([name]);
        invariant(sink !== undefined, "a sink of the file is loaded");
        const request = { sql, rowCountMax: options.count("--limit"), byteCountMax: BYTES_MAX };
        const result = await ask(place, sink, request, options.durationMs("--timeout"));
        const rows = result.rows.map((row) => Object.fromEntries(result.columns.map(({ name }, i) => [name, row[i]])));
        session.print({ sink: sink.name, columns: result.columns, rows, truncated: result.truncated }, tableOf(result));
        return EXIT.done;
      }),
    );
}

async function nameOf({ sinks }: Place, wanted: string | null): Promise<string> {
  const { connectors } = await import("../../../connectors/registry.ts");
  const able: string[] = [];
  for (const { name, kind } of sinks) if ((await connectors.sink(kind)).isQueryable) able.push(name);
  const names = able.join(", ") || "none";
  if (wanted !== null) {
    if (!able.includes(wanted))
      throw cliError("MR1110", `--sink: ${JSON.stringify(wanted)} can't be asked by SQL; these can: ${names}`);
    return wanted;
  }
  const [only, ...others] = able;
  if (only === undefined)
    throw cliError(
      "MR1110",
      "no sink of this configuration can be asked by SQL: a DuckDB, DuckLake or SQLite sink can",
    );
  if (others.length > 0) throw cliError("MR1110", `several sinks can be asked by SQL, name one with --sink: ${names}`);
  return only;
}

/** Runs one reading statement on the sink's target, or on a copy that its daemon makes. */
export async function ask(
  { state }: Pick<Place, "state">,
  sink: SinkConfig,
  request: QueryRequest,
  timeoutMs: number,
): Promise<QueryResult> {
  const body = { sink: sink.name, timeoutMs: Math.ceil(timeoutMs) };
  const deadline = AbortSignal.timeout(body.timeoutMs);
  try {
    if (sink.connector.query === undefined) throw cliError("MR1110", `sink ${sink.name} can't be asked by SQL`);
    if (sink.connector.isQueriedInPlace === true) return await sink.connector.query(request, null, deadline);
    const client = new DaemonClient(state);
    // If a daemon has the file open, this process queries a copy, so that the query takes no resources from the writer.
    const answer = await client.ask<{ copy: string }>("POST", "/api/v1/query", body, body.timeoutMs + ANSWER_MS);
    return await sink.connector.query(request, answer?.copy ?? null, deadline);
  } catch (error) {
    if (!deadline.aborted && !isAborted(error)) throw error;
    throw cliError("MR1123", `no answer within ${body.timeoutMs} ms: the query was stopped`, { cause: error });
  }
}

function tableOf({ columns, rows, truncated }: QueryResult): string {
  const head = columns.map(({ name }) => name);
  return `${tableText(
    head,
    rows.map((row) => row.map(cellText)),
  )}\n${count(rows.length, "row")}${truncated ? ", and more: see --limit" : ""}`;
}

function cellText(value: unknown): string {
  if (value === null) return "NULL";
  return typeof value === "string" ? value : JSON.stringify(value);
}
