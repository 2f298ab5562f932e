import { systemClock } from "../../core/clock.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { TableSelection } from "../../core/table-selection.ts";
import type { SinkConfig } from "../../config/config.ts";
import { historyNotPaused } from "../../runtime/errors.ts";
import { pauseWhileStopped, resumeWhileStopped } from "../../runtime/control/while-stopped.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { chosenSinks, withNest } from "../options.ts";
import { byKind, carryOut, chosenTables } from "../state.ts";

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
        const ofTables = tables.length === 0 ? {} : { tables };
        let snapshot: "initial" | "none" = "initial";
        await carryOut(place, {
          path: `/api/v1/${verb}`,
          body: { ...(sink === null ? {} : { sink }), ...ofTables },
          action: verb,
          subject: { sinks, ...ofTables },
          prepare: async () => {
            if (tables.length === 0) return;
            if (verb === "pause") expectNoHistory(await session.sinks(sinks), chosen);
            else ({ snapshot } = (await session.part({ sinks: [] })).source);
          },
          work: async (state) => {
            if (tables.length === 0) await storeSinks(state, verb, sinks);
            for (const { sinks: takers, tableIds } of byKind(place, sinks, tables)) {
              for (const name of takers) {
                if (verb === "pause") await pauseWhileStopped(state, systemClock, name, tableIds);
                else await resumeWhileStopped(state, snapshot, name, tableIds);
              }
            }
            return {};
          },
          mayRepeat: true,
        });
        const done = tables.length === 0 ? sinks : tables;
        session.print({ [`${verb}d`]: sinks, ...ofTables }, `${verb}d: ${done.join(", ")}`);
        return EXIT.done;
      }),
    );
}

async function storeSinks({ sinks }: StateStore, verb: Verb, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await sinks.setPaused(name, verb === "pause");
    if (verb === "pause") continue;
    await sinks.setError(name, null);
    await sinks.setLost(name, null);
  }
}

function expectNoHistory(sinks: readonly SinkConfig[], paused: readonly TableVersion[]): void {
  for (const { name, tables, connector } of sinks) {
    const selection = new TableSelection(tables);
    const isTaken = paused.some(({ schema, table }) => selection.matches(schema, table));
    if (isTaken && connector.form === "history") throw historyNotPaused(name);
  }
}
