import { systemClock } from "../../core/clock.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { TableSelection } from "../../core/table-selection.ts";
import type { SinkConfig } from "../../config/config.ts";
import type { Place } from "../../config/load.ts";
import { historyNotPaused } from "../../runtime/errors.ts";
import { pauseWhileStopped, resumeWhileStopped } from "../../runtime/control/while-stopped.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT } from "../exit-codes.ts";
import { chosenSinks, withNest } from "../options.ts";
import type { Session } from "../session.ts";
import { auditedHere, byKind, chosenTables, writeState } from "../state.ts";

type Verb = "pause" | "resume";

export function addPause(line: CommandLine): void {
  add(line, "pause", "stop writing to one sink or to all, also after restarts; the source keeps the log");
}

export function addResume(line: CommandLine): void {
  add(line, "resume", "let a paused or failed sink, or all of them, go on; ends the notice of lost changes");
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
      action("each", async (session, options) => {
        const place = await session.place();
        const sink = options.text("--sink");
        const sinks = chosenSinks(withNest(place), sink);
        const globs = options.tableGlobs();
        const chosen = globs.length === 0 ? [] : await chosenTables(place, globs);
        const tables = chosen.map(({ id }) => id);
        const body = { ...(sink === null ? {} : { sink }), ...(tables.length === 0 ? {} : { tables }) };
        await new DaemonClient(place.state).tell(`/api/v1/${verb}`, body, async () => {
          if (verb === "pause" && chosen.length > 0) expectNoHistory(await session.sinks(sinks), chosen);
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
  const subject = { sinks, ...(tables.length === 0 ? {} : { tables }) };
  await writeState(place, async (state) => {
    await auditedHere(state, verb, subject, async () => {
      for (const name of tables.length === 0 ? sinks : []) {
        await state.sinks.setPaused(name, verb === "pause");
        if (verb === "pause") continue;
        await state.sinks.setError(name, null);
        await state.sinks.setLost(name, null);
      }
      for (const { sinks: takers, tableIds } of byKind(place, sinks, tables)) {
        for (const name of takers) {
          if (verb === "pause") await pauseWhileStopped(state, systemClock, name, tableIds);
          else if (snapshot !== null) await resumeWhileStopped(state, snapshot, name, tableIds);
        }
      }
    });
  });
}

function expectNoHistory(sinks: readonly SinkConfig[], paused: readonly TableVersion[]): void {
  for (const { name, tables, connector } of sinks) {
    const selection = new TableSelection(tables);
    const isTaken = paused.some(({ schema, table }) => selection.matches(schema, table));
    if (isTaken && connector.form === "history") throw historyNotPaused(name);
  }
}
