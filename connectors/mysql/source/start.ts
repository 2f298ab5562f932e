/** First and later starts: the position at which the log is entered, and whether it is still the same log. */
import type { MillraceError } from "../../../src/core/errors.ts";
import {
  type CreatedLog,
  type CreateRequest,
  type HeldPositions,
  LogMoved,
} from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import type { LogFileSize, SourceContext } from "./context.ts";
import { otherServerId, readDump } from "./log/dump.ts";
import { BEGIN_ANEW, pages, sourceError } from "./errors.ts";
import { FORMAT_DESCRIPTION, EventHeader } from "./log/events.ts";
import { readFiles, readTip } from "./log/log-state.ts";
import { hasLandmark, parseLandmark, spellLandmark } from "./log/landmark.ts";
import { FILE_START, packPlace, unpackPlace } from "./log/position.ts";
import { selectTables } from "./catalog/selection.ts";
import type { ServerFacts } from "./server.ts";
import { SnapshotCopy } from "./snapshot/snapshot.ts";

export async function createLog(
  context: SourceContext,
  facts: ServerFacts,
  request: CreateRequest,
  signal: AbortSignal,
): Promise<CreatedLog> {
  await selectTables(context, true, signal);
  const commit = await readTip(context, signal);
  const position = { epoch: request.epoch, commit, index: 0 };
  const identity = await identityAt(context, facts, unpackPlace(commit).file, signal);
  if (!request.wantCopy) return { identity, position, copy: null };
  // After the position: a table that is altered in between has its later shape, and the stream shows the change once more.
  const selected = await selectTables(context, false, signal);
  return { identity, position, copy: new SnapshotCopy(context, facts, request.epoch, selected) };
}

/**
 * Compares the log with the stored identity: the server, the time stamp of the file that was last read, and whether the
 * files still hold everything from the position where Millrace continues.
 */
export async function resumeLog(
  context: SourceContext,
  facts: ServerFacts,
  identity: LogIdentity,
  held: HeldPositions,
  signal: AbortSignal,
): Promise<LogIdentity> {
  const why = otherHost(facts, identity);
  if (why !== undefined) throw context.read.isEmpty ? another(why) : moved(why);
  const stored = { file: Number(identity["file"] ?? "0"), createdAt: Number(identity["createdAt"] ?? "0") };
  const files = await readFiles(context, signal);
  const first = files.at(0)?.file ?? 0;
  const last = files.at(-1)?.file ?? 0;
  if (stored.file > last) throw another(`its files end before ${context.names.file(stored.file)}`);
  if (stored.file >= first) {
    const createdAt = await fileCreatedAt(context, stored.file, signal);
    if (createdAt !== stored.createdAt) throw another(`${context.names.file(stored.file)} is another file than before`);
  }
  checkHeld(context, files, held.from.commit);
  const landmark = (context.landmark ??= parseLandmark(identity["landmark"]));
  if (landmark !== undefined && unpackPlace(landmark.start).file >= first) {
    if (!(await hasLandmark(context, landmark, signal)))
      throw another(`at ${context.names.format(landmark.start)} is not what was read there`);
  }
  const tip = await readTip(context, signal);
  if (held.reached.commit > tip)
    throw sourceError(
      "MR2118",
      "fatal",
      `the sinks hold changes up to ${context.names.format(held.reached.commit)}, the log ends at ${context.names.format(tip)}`,
    );
  const { file } = unpackPlace(held.from.commit);
  if (file === stored.file) return { ...identity, serverId: String(facts.serverId) };
  return await identityAt(context, facts, file, signal);
}

/** How the server differs from the one of `identity`; undefined if it does not. */
export function otherHost(facts: ServerFacts, identity: LogIdentity): string | undefined {
  if (identity["flavour"] !== facts.flavour) throw another(`it is ${facts.flavour} now`);
  if (identity["uuid"] !== facts.uuid) return `its server_uuid is ${facts.uuid}`;
  // Distinguishes hosts of MariaDB.
  const serverId = identity["serverId"];
  if (facts.uuid !== "" || serverId === String(facts.serverId)) return undefined;
  return `its server_id is ${facts.serverId}, not ${serverId}`;
}

function checkHeld(context: SourceContext, files: readonly LogFileSize[], from: bigint): void {
  const { file, offset } = unpackPlace(from);
  const found = files.find((one) => one.file === file);
  const place = context.names.format(from);
  if (found === undefined) {
    const first = files.at(0)?.file ?? 0;
    if (file < first)
      throw sourceError(
        "MR2116",
        "fatal",
        `the log begins with ${context.names.file(first)}; ${place} has been purged`,
      );
    throw sourceError("MR2118", "fatal", `the log has no file ${context.names.file(file)}, where we stand`);
  }
  if (offset > Math.max(found.size, FILE_START))
    throw sourceError(
      "MR2118",
      "fatal",
      `${context.names.file(file)} has ${found.size} bytes, and we stand at ${offset}`,
    );
}

export function another(why: string): MillraceError {
  return sourceError("MR2117", "fatal", `the log is another one than before: ${why}`, BEGIN_ANEW);
}

/** The start finds out whether Millrace can continue in this log. */
function moved(why: string): Error {
  const hint = pages.MR2128?.remedy;
  const message = `the log is another one than before: ${why}`;
  return new LogMoved({ code: "MR2128", kind: "fatal", message, ...(hint === undefined ? {} : { hint }) });
}

export async function identityAt(
  context: SourceContext,
  facts: ServerFacts,
  file: number,
  signal: AbortSignal,
): Promise<LogIdentity> {
  const createdAt = await fileCreatedAt(context, file, signal);
  return identityOf(context, facts, file, createdAt);
}

function identityOf(context: SourceContext, facts: ServerFacts, file: number, createdAt: number): LogIdentity {
  return {
    flavour: facts.flavour,
    uuid: facts.uuid,
    serverId: String(facts.serverId),
    base: context.names.base,
    file: String(file),
    createdAt: String(createdAt),
    read: context.read.text,
    landmark: spellLandmark(context.landmark),
    shapes: context.shapes.text,
    reader: context.reader.id,
  };
}

/** The time stamp of the file's first event: after a reset, another file has the same name. */
export async function fileCreatedAt(context: SourceContext, file: number, signal: AbortSignal): Promise<number> {
  const header = new EventHeader();
  const request = { file: context.names.file(file), offset: FILE_START, serverId: otherServerId(context) };
  const take = (bytes: Buffer, start: number): boolean => {
    header.read(bytes, start);
    return header.type !== FORMAT_DESCRIPTION;
  };
  await readDump(context, request, take, "looking at a file of the log", signal);
  return header.timestamp;
}

export function startOf(file: number): bigint {
  return packPlace(file, FILE_START);
}
