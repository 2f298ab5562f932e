import { systemClock } from "../../core/clock.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { TableSelection } from "../../core/table-selection.ts";
import type { SinkConfig } from "../../config/config.ts";
import type { Place } from "../../config/load.ts";
import { historyNotPaused } from "../../runtime/errors.ts";
import { pauseWhileStopped, resumeWhileStopped } from "../../runtime/control/while-stopped.ts";
import { openState } from "../../state/open.ts";
import { chosenSinks, noTableMatches } from "../arguments.ts";
import { auditedHere } from "../audit.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT } from "../exit-codes.ts";
import { withSink } from "../opened-sink.ts";
import { readState } from "../read-state.ts";
import type { Session } from "../session.ts";

type Verb = "pause" | "resume";

export function addPause(line: CommandLine): void {
  add(line, "pause", "stop writing to one sink or to all, also after restarts; the source keeps the log");
}

export function addResume(line: CommandLine): void {
  add(line, "resume", "let a paused or failed sink, or all of them, go on");
}

const OF_TABLES: Readonly<Record<Verb, string>> = {
  pause: "schema.table globs: these tables alone; their changes are skipped, the source keeps no log for them",
  resume: "schema.table globs: these tables alone; what passed meanwhile is read",
};

function add({ program, action }: CommandLine, verb: Verb, description: string): void {
  program
    .command(verb)
    .description(description)
    .option("--sink <name>", "this sink only")
    .option("--tables <globs...>", OF_TABLES[verb])
    .action(
      action(async (session, options) => {
        const place = await session.place();
        const sink = typeof options["sink"] === "string" ? options["sink"] : null;
        const sinks = chosenSinks(place, sink);
        const globs = Array.isArray(options["tables"]) ? options["tables"].map(String) : [];
        const chosen = globs.length === 0 ? [] : await chosenTables(place, globs);
        const tables = chosen.map(({ id }) => id);
        const body = { ...(sink === null ? {} : { sink }), ...(tables.length === 0 ? {} : { tables }) };
        await new DaemonClient(place.state).tell(`/api/v1/${verb}`, body, async () => {
          if (verb === "pause" && chosen.length > 0) await expectNoHistory(await session.sinks(sinks), chosen);
          await store(session, { place, verb, sinks, tables });
        });
        const paused = tables.length === 0 ? sinks : tables;
        session.print(
          { [`${verb}d`]: sinks, ...(tables.length === 0 ? {} : { tables }) },
          `${verb}d: ${paused.join(", ")}`,
        );
        return EXIT.done;
      }),
    );
}

async function chosenTables(place: Place, globs: readonly string[]): Promise<readonly TableVersion[]> {
  const selection = new TableSelection(globs);
  const known = await readState(place, ({ schemas }) => schemas.list());
  const chosen = known.filter(({ schema, table }) => selection.matches(schema, table));
  if (chosen.length === 0) throw noTableMatches(globs);
  return chosen;
}

interface Stored {
  readonly place: Place;
  readonly verb: Verb;
  readonly sinks: readonly string[];
  readonly tables: readonly string[];
}

/** In the state store, for the next start. */
async function store(session: Session, { place, verb, sinks, tables }: Stored): Promise<void> {
  const isRead = verb === "resume" && tables.length > 0;
  const snapshot = isRead ? (await session.part({ sinks: [] })).source.snapshot : null;
  const state = await openState(place.state, { name: place.name });
  try {
    await auditedHere(state, verb, { sinks, ...(tables.length === 0 ? {} : { tables }) }, async () => {
      for (const name of sinks) {
        if (tables.length === 0) {
          await state.sinks.setPaused(name, verb === "pause");
          if (verb === "resume") await state.sinks.setError(name, null);
        } else if (verb === "pause") await pauseWhileStopped(state, systemClock, name, tables);
        else if (snapshot !== null) await resumeWhileStopped(state, snapshot, name, tables);
      }
    });
  } finally {
    await state.close();
  }
}

async function expectNoHistory(sinks: readonly SinkConfig[], paused: readonly TableVersion[]): Promise<void> {
  for (const sink of sinks) {
    const selection = new TableSelection(sink.tables);
    if (!paused.some(({ schema, table }) => selection.matches(schema, table))) continue;
    const form = await withSink(SILENT, sink, async (made) => made.form);
    if (form === "history") throw historyNotPaused(sink.name);
  }
}
