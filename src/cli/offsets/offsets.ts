import { count } from "../../core/figures.ts";
import type { Command } from "commander";
import type { Place } from "../../config/load.ts";
import { NUMBERED, type Positions } from "../../core/contracts/positions.ts";
import type { SinkRecord } from "../../core/contracts/state-store.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT } from "../exit-codes.ts";
import { withNest } from "../options.ts";
import { readState, storedPositions } from "../state.ts";
import { tableText } from "../table.ts";
import { planText, resetOffsets } from "./offset-reset.ts";

export function addOffsets(line: CommandLine): void {
  const { program, action } = line;
  const offsets = program.command("offsets").description("show and move the positions of the source and the sinks");
  offsets
    .command("show")
    .description("positions of the source and of each sink")
    .action(
      action("each", async (session) => {
        const shown = await show(await session.place());
        session.print(shown, describe(shown));
        return EXIT.done;
      }),
    );
  offsets
    .command("reset")
    .description(
      "move sinks to another position in the source's log, or fill them again; prints the plan unless --yes is given",
    )
    .requiredOption(
      "--to <place>",
      "position | earliest | latest | snapshot | time with its zone (2026-11-20T06:43:15Z)",
    )
    .option("--sink <name>", "this sink only")
    .option("--yes", "do it")
    .action(
      action("each", async (session, options) => {
        const [to, sink] = [options.text("--to") ?? "", options.text("--sink")];
        const plan = await resetOffsets(session, { to, sink, isConfirmed: options.has("--yes") });
        session.print(plan, planText(plan));
        return plan.applied ? EXIT.done : EXIT.refused;
      }),
    );
  addTransfers(offsets, line);
}

function addTransfers(offsets: Command, { action }: CommandLine): void {
  offsets
    .command("export <file>")
    .description("write everything that another machine needs to continue into a file")
    .option("--force", "replace an existing file")
    .action(
      action("one", async (session, options, [file = ""]) => {
        const { exportOffsets } = await import("./offset-transfer.ts");
        const exported = await exportOffsets(await session.place(), file, options.has("--force"));
        session.print(
          exported,
          `exported to ${file}: ${count(exported.sinks.length, "sink")}, epoch ${exported.epoch ?? "-"}`,
        );
        return EXIT.done;
      }),
    );
  offsets
    .command("import <file>")
    .description("load an export of another machine; prints the plan unless --yes is given")
    .option("--yes", "do it")
    .action(
      action("one", async (session, options, [file = ""]) => {
        const { importOffsets, importText } = await import("./offset-transfer.ts");
        const plan = await importOffsets(session, file, options.has("--yes"));
        session.print(plan, importText(plan));
        return plan.applied ? EXIT.done : EXIT.refused;
      }),
    );
}

interface SinkOffset {
  readonly name: string;
  readonly kind: string;
  /** The sink has done everything before this position. */
  readonly position: string | null;
  /** The last position that the sink itself reported as durable. */
  readonly written: string | null;
  /** The transactions before the stored position, by name; null if the source has no such names. */
  readonly gtids: { readonly position: string; readonly set: string } | null;
  readonly tables: number;
  /** The position of a requested reset that no daemon has carried out yet. */
  readonly reset: { readonly position: string; readonly anew: boolean } | null;
}

interface Offsets {
  readonly source: {
    readonly kind: string;
    readonly position: string | null;
    readonly acknowledged: string | null;
    readonly origin: string | null;
    readonly epoch: number | null;
  };
  readonly sinks: readonly SinkOffset[];
}

/** From the state; from the running daemon if there is one, which knows newer positions. */
async function show(place: Place): Promise<Offsets> {
  const live = await new DaemonClient(place.state).ask<StatusDocument>("GET", "/api/v1/status");
  return await readState(place, async (state) => {
    const positions = await storedPositions(place, state);
    const record = await state.source.get();
    const records = new Map((await state.sinks.all()).map((sink) => [sink.name, sink]));
    const acknowledged = live?.source.acknowledged ?? spell(positions, record?.acknowledged ?? record?.origin);
    return {
      source: {
        kind: place.source.kind,
        position: live?.source.position ?? acknowledged,
        acknowledged,
        origin: spell(positions, record?.origin),
        epoch: record?.epoch ?? null,
      },
      sinks: withNest(place).sinks.map(({ name, kind, isOfDocuments }) => {
        const position = live?.sinks.find((sink) => sink.name === name)?.position ?? null;
        return { name, kind, ...sinkOffset(isOfDocuments ? NUMBERED : positions, records.get(name), position) };
      }),
    };
  });
}

function sinkOffset(positions: Positions, record: SinkRecord | undefined, live: string | null) {
  const reset = record?.reset ?? null;
  return {
    position: live ?? spell(positions, record?.covered ?? record?.checkpoint),
    written: spell(positions, record?.checkpoint),
    gtids: gtidsBefore(positions, record?.covered),
    tables: Object.keys(record?.tables ?? {}).length,
    reset: reset === null ? null : { position: positions.format(reset.to.commit), anew: reset.anew },
  };
}

function gtidsBefore(
  positions: Positions,
  position: { readonly commit: bigint } | null | undefined,
): SinkOffset["gtids"] {
  const set = position == null ? undefined : positions.namesBefore?.(position.commit);
  return position == null || set === undefined ? null : { position: positions.format(position.commit), set };
}

function spell(positions: Positions, position: { readonly commit: bigint } | null | undefined): string | null {
  return position == null ? null : positions.format(position.commit);
}

function describe({ source, sinks }: Offsets): string {
  const acknowledged = `the source may forget all before ${source.acknowledged ?? "-"}; epoch ${source.epoch ?? "-"}`;
  const rows = sinks.map(({ name, kind, position, tables, reset }) => {
    const note =
      reset === null ? "" : `reset to ${reset.position}${reset.anew ? ", filled again" : ""} at the next start`;
    return [name, kind, position ?? "-", tables, note];
  });
  const ofSource = ["source", source.kind, source.position ?? "-", "", acknowledged];
  const gtids = sinks.flatMap(({ name, gtids: known }) =>
    known === null ? [] : [`${name} at ${known.position} has ${known.set === "" ? "no transaction yet" : known.set}`],
  );
  return [tableText(["", "kind", "position", "complete tables", "note"], [ofSource, ...rows]), ...gtids].join("\n");
}
