/**
 * First and later starts: the position at which the log is entered, whether it is still the same log, and what is known of it
 * and has to be stored since.
 */
import {
  type CreatedLog,
  type CreateRequest,
  type Crossing,
  type HeldPositions,
} from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import { findMillraceError, type MillraceError } from "../../../src/core/errors.ts";
import { RECOVER } from "../../../src/core/meanings.ts";
import { sourceError } from "./errors.ts";
import { hasLandmark, parseLandmark, spellLandmark } from "./events/log-walk.ts";
import type { TableReadings } from "./snapshot/reading.ts";
import { SnapshotCopy } from "./snapshot/snapshot.ts";
import { HostCrossing } from "./transactions/crossing.ts";
import { FILE_START, unpackPosition } from "./wire/position.ts";
import type { ServerFacts } from "./wire/server-facts.ts";
import type { SourceParts } from "./source-parts.ts";

export class KnownLog {
  readonly #parts: SourceParts;
  readonly #readings: TableReadings;
  readonly #crossing: HostCrossing;
  #identity: LogIdentity | undefined;
  /** The sinks' positions as last reported. */
  #kept: readonly bigint[] = [];

  constructor(parts: SourceParts, readings: TableReadings) {
    this.#parts = parts;
    this.#readings = readings;
    const { files, server, state, tables } = parts;
    this.#crossing = new HostCrossing(server, files, tables, state.read);
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    const { files, server, tables } = this.#parts;
    await server.refresh(signal);
    tables.begin();
    await tables.select(true, signal);
    const commit = await files.tip(signal);
    const position = { epoch: request.epoch, commit, index: 0 };
    const identity = await this.#identityAt(unpackPosition(commit).file, signal);
    // After the position: a table that is altered in between has its later shape, and the stream shows the change once more.
    const selected = request.wantCopy ? await tables.select(false, signal) : null;
    await this.knowBefore(commit, signal);
    this.#identity = { ...identity, ...this.#seen };
    const copy = selected === null ? null : new SnapshotCopy(this.#readings, request.epoch, selected);
    return { identity: this.#identity, position, copy };
  }

  /**
   * Compares the log with the stored identity: the server, the time stamp of the file that was last read, and whether the
   * files still hold everything from the position where Millrace continues.
   */
  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    const { files, server, state } = this.#parts;
    const { names } = server;
    this.#takeIn(identity);
    const facts = await server.refresh(signal);
    const why = otherHost(facts, identity);
    if (why !== undefined) throw state.read.isEmpty ? another(why) : moved(why);
    const differs = this.#mayBeUnnamed(facts) ? moved : another;
    const otherFile = await this.#otherFile(identity, signal);
    if (otherFile !== undefined) throw differs(otherFile);
    // A copy of the disk, or a server that lost power, may end a file earlier, and has begun the next one.
    for (const { commit } of [held.from, held.reached]) this.#checkHeld(commit);
    const otherContent = await this.#otherContent(identity, signal);
    if (otherContent !== undefined) throw differs(otherContent);
    const tip = await files.tip(signal);
    const { reached } = held;
    if (reached.commit > tip)
      throw beyond(
        `the sinks hold changes up to ${names.format(reached.commit)}, the log ends at ${names.format(tip)}`,
      );
    const { file } = unpackPosition(held.from.commit);
    const isSame = file === Number(identity["file"] ?? "0");
    this.#identity = isSame ? { ...identity, serverId: String(facts.serverId) } : await this.#identityAt(file, signal);
    return this.#identity;
  }

  /** Continues in another host of the same replication set, by the names of its transactions. */
  async cross(identity: LogIdentity, positions: readonly bigint[], signal: AbortSignal): Promise<Crossing | null> {
    const { server, tables } = this.#parts;
    const facts = await server.refresh(signal);
    this.#takeIn(identity);
    let why = otherHost(facts, identity);
    if (why === undefined && this.#mayBeUnnamed(facts)) {
      why = (await this.#otherFile(identity, signal)) ?? (await this.#otherContent(identity, signal));
    }
    if (why === undefined) return null;
    const refuse = (what: string): Error => another(`${why}; Millrace can't continue in it: ${what}`);
    const crossing = await this.#crossing.cross(positions, refuse, signal);
    // It lies in the former log.
    this.#parts.state.landmark = undefined;
    this.#identity = await this.#identityAt(unpackPosition(crossing.from).file, signal);
    tables.begin();
    return { ...crossing, identity: this.#identity };
  }

  remember(positions: readonly bigint[]): LogIdentity | null {
    if (this.#identity === undefined) return null;
    this.#parts.state.read.keep(positions, this.#kept);
    this.#kept = positions;
    const seen = this.#seen;
    const before = this.#identity;
    if (Object.entries(seen).every(([name, value]) => before[name] === value)) return null;
    this.#identity = { ...before, ...seen };
    return this.#identity;
  }

  /** The identity to store if the stream has reached another file, or other tables are being filled; otherwise null. */
  come(): LogIdentity | null {
    const { file } = this.#parts.state;
    const before = this.#identity;
    if (file === undefined || before === undefined) return null;
    const isNews = before["file"] !== String(file.file) || before["filling"] !== this.#parts.tables.alterations.text;
    if (!isNews) return null;
    // Invariant: the file belongs to the host that was compared before the stream began; another host may answer by now.
    this.#identity = { ...before, file: String(file.file), createdAt: String(file.createdAt), ...this.#seen };
    return this.#identity;
  }

  /** The transactions before a position. Without them the stream still continues, but a failover can't. */
  async knowBefore(position: bigint, signal: AbortSignal): Promise<void> {
    const { files, logger, state } = this.#parts;
    if (state.read.at(position) !== undefined) return;
    try {
      // A stream that begins behind the log's end says so.
      if (position > (await files.tip(signal))) return;
      const before = await this.#crossing.before(position, signal);
      if (before !== undefined) state.read.know([[position, before]]);
    } catch (error) {
      signal.throwIfAborted();
      if (findMillraceError(error)?.kind === "retryable") throw error;
      logger.warn({ error }, "the transactions before the stream are unknown: no failover by GTID");
    }
  }

  #takeIn(identity: LogIdentity): void {
    const { claim, state, tables } = this.#parts;
    state.read.load(identity["read"]);
    tables.shapes.load(identity["shapes"]);
    tables.alterations.load(identity["filling"]);
    claim.load(identity["reader"]);
  }

  /**
   * Hosts of MariaDB may have one server_id (Galera, a common image): only their logs tell them apart. The names of transactions
   * show whether Millrace can continue there.
   */
  #mayBeUnnamed({ uuid }: ServerFacts): boolean {
    return uuid === "" && !this.#parts.state.read.isEmpty;
  }

  /** How the file differs that was stored with the identity; undefined if it does not, or was purged. */
  async #otherFile(identity: LogIdentity, signal: AbortSignal): Promise<string | undefined> {
    const { files, server } = this.#parts;
    const file = Number(identity["file"] ?? "0");
    const sizes = await files.read(signal);
    if (file > (sizes.at(-1)?.file ?? 0)) return `its files end before ${server.names.file(file)}`;
    if (file < (sizes.at(0)?.file ?? 0)) return undefined;
    const createdAt = await files.createdAt(file, signal);
    return String(createdAt) === (identity["createdAt"] ?? "0")
      ? undefined
      : `${server.names.file(file)} is another file than before`;
  }

  async #otherContent(identity: LogIdentity, signal: AbortSignal): Promise<string | undefined> {
    const { files, server, state } = this.#parts;
    const landmark = (state.landmark ??= parseLandmark(identity["landmark"]));
    const first = files.sizes.at(0)?.file ?? 0;
    if (landmark === undefined || unpackPosition(landmark.start).file < first) return undefined;
    if (await hasLandmark(server, landmark, signal)) return undefined;
    return `at ${server.names.format(landmark.start)} is not what was read there`;
  }

  #checkHeld(from: bigint): void {
    const { names } = this.#parts.server;
    const { sizes } = this.#parts.files;
    const { file, offset } = unpackPosition(from);
    const found = sizes.find((one) => one.file === file);
    if (found === undefined) {
      const first = sizes.at(0)?.file ?? 0;
      if (file >= first) throw beyond(`the log has no file ${names.file(file)}, where we stand`);
      const what = `the log begins with ${names.file(first)}: what follows ${names.format(from)} was purged, or a file of it was removed`;
      throw sourceError("MR2010", "fatal", what);
    }
    if (offset > Math.max(found.size, FILE_START))
      throw beyond(`${names.file(file)} has ${found.size} bytes, and we stand at ${offset}`);
  }

  async #identityAt(file: number, signal: AbortSignal): Promise<LogIdentity> {
    const { files, server } = this.#parts;
    const createdAt = await files.createdAt(file, signal);
    const { flavour, serverId, uuid } = await server.facts(signal);
    return {
      flavour,
      uuid,
      serverId: String(serverId),
      base: server.names.base,
      file: String(file),
      createdAt: String(createdAt),
      ...this.#seen,
    };
  }

  /** The stored form of what was read. */
  get #seen(): LogIdentity {
    const { claim, state, tables } = this.#parts;
    return {
      read: state.read.text,
      landmark: spellLandmark(state.landmark),
      shapes: tables.shapes.text,
      filling: tables.alterations.text,
      reader: claim.id,
    };
  }
}

/** How the server differs from the one of `identity`; undefined if it does not. */
function otherHost(facts: ServerFacts, identity: LogIdentity): string | undefined {
  if (identity["flavour"] !== facts.flavour) throw another(`it is ${facts.flavour} now`);
  if (identity["uuid"] !== facts.uuid) return `its server_uuid is ${facts.uuid}`;
  // Distinguishes hosts of MariaDB.
  const serverId = identity["serverId"];
  if (facts.uuid !== "" || serverId === String(facts.serverId)) return undefined;
  return `its server_id is ${facts.serverId}, not ${serverId}`;
}

function another(why: string): MillraceError {
  return sourceError("MR2013", "fatal", `the log is another one than before: ${why}`, { hint: RECOVER });
}

function beyond(why: string): MillraceError {
  return sourceError("MR2016", "fatal", why);
}

/** The start finds out whether Millrace can continue in this log. */
function moved(why: string): MillraceError {
  return sourceError("MR2032", "fatal", `the log is another one than before: ${why}`, { reason: "moved" });
}
