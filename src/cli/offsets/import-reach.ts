import type { Config, SinkConfig } from "../../config/config.ts";
import { findMillraceError } from "../../core/errors.ts";
import { comparePositions, parsePosition, type Position } from "../../core/model/position.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { StateDump, StateRow } from "../../core/contracts/state-store.ts";
import { reachable, unreachable } from "./chosen-offset.ts";
import { SINK_ANSWER_MS_MAX, whileOpen } from "../opened.ts";
import type { Session } from "../session.ts";

const ANOTHER_EXPORT =
  "Export again from the state that the sinks were written with last. Or start without a state: a new epoch begins then, and all tables are read again.";

/**
 * Throws if the source has dropped log that a sink lacks, or if a sink has a later epoch than the export. A sink that
 * went on after the export reports its own position; for one that does not answer the position in the export counts. If
 * no sink has a position, the daemon starts at the source's. `names`: also of sinks that can't be asked here.
 */
export async function expectReachable(
  session: Pick<Session, "log">,
  config: Pick<Config, "sinks">,
  source: Pick<Source, "log" | "positions">,
  dump: StateDump,
  names: readonly string[] = config.sinks.map(({ name }) => name),
): Promise<void> {
  const { signal } = new AbortController();
  const range = await reachable(source.log, signal);
  const beyond = (what: string): Error => unreachable(source.positions, what, range, ANOTHER_EXPORT);
  const at = ({ commit }: Position): string => source.positions.format(commit);
  const record = dump.relations["source"]?.[0];
  const acknowledged = placeIn(record, "acknowledged") ?? placeIn(record, "origin");
  let isAnyPlaced = false;
  for (const name of names) {
    const row = dump.relations["sink"]?.find((one) => one["name"] === name);
    const written = placeIn(row, "written");
    // A sink that is not in the export is filled.
    if (row === undefined || written === null) continue;
    const covered = placeIn(row, "covered") ?? written;
    const sink = config.sinks.find((one) => one.name === name);
    const own = sink === undefined ? null : await heldBy(session, sink);
    if (own !== null && acknowledged !== null && own.epoch > acknowledged.epoch) {
      throw beyond(`sink ${name} is in epoch ${own.epoch}: epoch ${acknowledged.epoch} of the export`);
    }
    const isAsExported = own === null || comparePositions(own, written) === 0;
    const place = isAsExported ? covered : own;
    if (place.commit < range.first) throw beyond(`sink ${name} at ${at(place)}`);
    isAnyPlaced = true;
  }
  if (!isAnyPlaced && acknowledged !== null && acknowledged.commit < range.first)
    throw beyond(`position ${at(acknowledged)}`);
}

/** By its own checkpoint, without taking the sink over. */
async function heldBy({ log }: Pick<Session, "log">, { connector }: SinkConfig): Promise<Position | null> {
  const signal = AbortSignal.timeout(SINK_ANSWER_MS_MAX);
  try {
    return (await whileOpen(connector.create(log), (sink) => sink.look(signal)))?.position ?? null;
  } catch (error) {
    if (findMillraceError(error) === undefined) throw error;
    return null;
  }
}

function placeIn(row: StateRow | undefined, column: string): Position | null {
  const value = row?.[column];
  return typeof value === "string" ? parsePosition(value) : null;
}
