/**
 * What is known about the log, since its creation or the comparison with the stored identity, and what of it has to be
 * stored.
 */
import type { CreatedLog, CreateRequest, Crossing, HeldPositions } from "../../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { findMillraceError } from "../../../../src/core/errors.ts";
import type { SourceContext } from "../context.ts";
import { spellLandmark } from "../log/landmark.ts";
import type { AnsweringServer, ServerFacts } from "../server.ts";
import { createLog, otherHost, resumeLog } from "../start.ts";
import { crossLog, readBefore } from "./crossing.ts";

export class KnownLog {
  readonly #context: SourceContext;
  readonly #server: AnsweringServer;
  #identity: LogIdentity | undefined;
  /** The sinks' positions as last reported. */
  #kept: readonly bigint[] = [];

  constructor(context: SourceContext, server: AnsweringServer) {
    this.#context = context;
    this.#server = server;
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    const facts = await this.#server.refresh(signal);
    this.#context.shapes.begin();
    this.#context.alterations.begin();
    const log = await createLog(this.#context, facts, request, signal);
    await this.knowBefore(log.position.commit, facts, signal);
    this.#identity = { ...log.identity, read: this.#context.read.text };
    return { ...log, identity: this.#identity };
  }

  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    this.#takeIn(identity);
    const facts = await this.#server.refresh(signal);
    this.#identity = await resumeLog(this.#context, facts, identity, held, signal);
    return this.#identity;
  }

  /** Continues in another host of the same replication set, by the names of its transactions. */
  async cross(identity: LogIdentity, places: readonly bigint[], signal: AbortSignal): Promise<Crossing | null> {
    const facts = await this.#server.refresh(signal);
    this.#takeIn(identity);
    const why = otherHost(facts, identity);
    if (why === undefined) return null;
    const crossing = await crossLog(this.#context, facts, why, places, signal);
    this.#context.shapes.begin();
    this.#context.alterations.begin();
    this.#identity = crossing.identity;
    return crossing;
  }

  remember(places: readonly bigint[]): LogIdentity | null {
    const { read } = this.#context;
    if (this.#identity === undefined) return null;
    read.keep(places, this.#kept);
    this.#kept = places;
    const seen = this.#seen;
    const before = this.#identity;
    if (Object.entries(seen).every(([name, value]) => before[name] === value)) return null;
    this.#identity = { ...before, ...seen };
    return this.#identity;
  }

  /** The identity to store if the stream has reached another file; otherwise null. */
  come(): LogIdentity | null {
    const { log } = this.#context;
    const before = this.#identity;
    if (log === undefined || before === undefined || before["file"] === String(log.file)) return null;
    // Invariant: the file belongs to the host that was compared before the stream began; another host may answer by now.
    this.#identity = { ...before, file: String(log.file), createdAt: String(log.createdAt), ...this.#seen };
    return this.#identity;
  }

  knowReader(identity: LogIdentity): void {
    const { reader } = this.#context;
    if (!reader.hasRead) reader.load(identity["reader"]);
  }

  /** The transactions before a position. Without them the stream still continues, but a failover can't. */
  async knowBefore(place: bigint, facts: ServerFacts, signal: AbortSignal): Promise<void> {
    const { logger, read } = this.#context;
    if (read.at(place) !== undefined) return;
    try {
      const before = await readBefore(this.#context, facts, place, signal);
      if (before !== undefined) read.know([[place, before]]);
    } catch (error) {
      signal.throwIfAborted();
      if (findMillraceError(error)?.kind === "retryable") throw error;
      logger.warn({ error }, "the transactions before the stream are unknown: no failover by GTID");
    }
  }

  #takeIn(identity: LogIdentity): void {
    const { read, shapes } = this.#context;
    read.load(identity["read"]);
    shapes.load(identity["shapes"]);
    this.knowReader(identity);
  }

  /** The stored form of the transactions that were read. */
  get #seen(): LogIdentity {
    const { landmark, read, reader, shapes } = this.#context;
    return { read: read.text, landmark: spellLandmark(landmark), shapes: shapes.text, reader: reader.id };
  }
}
