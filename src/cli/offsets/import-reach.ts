import type { Config, SinkConfig } from "../../config/config.ts";
import { findMillraceError } from "../../core/errors.ts";
import { comparePositions, parsePosition, type Position } from "../../core/model/position.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { StateDump, StateRow } from "../../core/contracts/state-store.ts";
import { reachable, unreachable } from "./offset-place.ts";
import { askSink } from "../opened-sink.ts";
import type { Session } from "../session.ts";

/**
 * Throws where the source has forgotten what a sink lacks. Sinks that went on after the export say themselves how far they are;
 * one that does not answer is where the export has it.
 */
export async function expectReachable(
  session: Pick<Session, "log">,
  config: Pick<Config, "sinks">,
  source: Pick<Source, "log" | "positions">,
  dump: StateDump,
): Promise<void> {
  const { signal } = new AbortController();
  const range = await reachable(source.log, signal);
  for (const sink of config.sinks) {
    const { name } = sink;
    const row = dump.relations["sink"]?.find((one) => one["name"] === name);
    const written = placeIn(row, "written");
    // A sink that the export knows nothing of is filled.
    if (row === undefined || written === null) continue;
    const covered = placeIn(row, "covered") ?? written;
    const own = await heldBy(session, sink);
    const isAsExported = own === null || comparePositions(own, written) === 0;
    const place = isAsExported ? covered : own;
    if (place.commit < range.first) {
      throw unreachable(source.positions, `sink ${name} at ${source.positions.format(place.commit)}`, range);
    }
  }
}

async function heldBy({ log }: Pick<Session, "log">, sink: SinkConfig): Promise<Position | null> {
  try {
    return (await askSink(log, sink))?.position ?? null;
  } catch (error) {
    if (findMillraceError(error) === undefined) throw error;
    return null;
  }
}

function placeIn(row: StateRow | undefined, column: string): Position | null {
  const value = row?.[column];
  return typeof value === "string" ? parsePosition(value) : null;
}
