import type { Config } from "../config/config.ts";
import { findMillraceError } from "../core/errors.ts";
import { comparePositions, parsePosition, type Position } from "../core/position.ts";
import type { Source } from "../core/source.ts";
import type { StateDump, StateRow } from "../core/state-store.ts";
import { reachable, unreachable } from "./offset-place.ts";
import type { Session } from "./session.ts";

/**
 * Throws where the source has forgotten what a sink lacks. Sinks that went on after the export say themselves how far they are;
 * one that does not answer is where the export has it.
 */
export async function expectReachable(
  session: Session,
  config: Config,
  source: Source,
  dump: StateDump,
  lease: number,
): Promise<void> {
  const { signal } = new AbortController();
  const range = await reachable(source, signal);
  for (const { name, connector } of config.sinks) {
    const row = dump.relations["sink"]?.find((one) => one["name"] === name);
    const written = placeIn(row, "written");
    // A sink that the export knows nothing of is filled.
    if (row === undefined || written === null) continue;
    const covered = placeIn(row, "covered") ?? written;
    const own = await heldBy(session, connector, lease);
    const isAsExported = own === null || comparePositions(own, written) === 0;
    const place = isAsExported ? covered : own;
    if (place.commit < range.first) {
      throw unreachable(source, `sink ${name} at ${source.formatPosition(place.commit)}`, range);
    }
  }
}

async function heldBy(
  session: Session,
  connector: Config["sinks"][number]["connector"],
  lease: number,
): Promise<Position | null> {
  const sink = await connector.create(session.log);
  try {
    return (await sink.open(lease, AbortSignal.timeout(ANSWER_MS_MAX)))?.position ?? null;
  } catch (error) {
    if (findMillraceError(error) === undefined) throw error;
    return null;
  } finally {
    await sink.close();
  }
}

/** For a sink to say what it holds. */
const ANSWER_MS_MAX = 30_000;

function placeIn(row: StateRow | undefined, column: string): Position | null {
  const value = row?.[column];
  return typeof value === "string" ? parsePosition(value) : null;
}
