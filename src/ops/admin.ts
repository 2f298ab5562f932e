import fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import { MillraceError } from "../core/errors.ts";
import type { ReconcileRequest } from "../core/contracts/reconciliation.ts";
import type { StatusDocument } from "../core/contracts/status.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import {
  DISCARD,
  QUERY,
  RECONCILE,
  REPLAY,
  SINK,
  SNAPSHOT,
  SNAPSHOT_WITH_CONDITION,
  validatorOf,
  WAIT,
} from "./admin-bodies.ts";
import { admit, askerOf, type Entrance, isLook } from "./admission.ts";
import { failure } from "./failure.ts";
import { openApi } from "./openapi.ts";

/** What the admin interface can show and do. */
export interface AdminPort {
  readonly version: string;
  readonly status: () => Promise<StatusDocument>;
  /** Why the daemon is not ready; empty if it is. */
  readonly unready: () => readonly string[];
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly pause: (sink: string | null) => Promise<void>;
  readonly resume: (sink: string | null) => Promise<void>;
  readonly wait: (timeoutMs: number) => Promise<{ readonly reached: boolean; readonly missing: readonly string[] }>;
  readonly startSnapshot: (request: SnapshotBody) => Promise<readonly string[]>;
  readonly snapshots: () => Promise<readonly object[]>;
  readonly cancelSnapshot: (id: number) => Promise<boolean>;
  readonly replayLetters: (choice: LetterBody, timeoutMs: number) => Promise<object>;
  /** How many were waiting. */
  readonly discardLetters: (choice: LetterBody) => Promise<number>;
  /** Summaries of past comparisons, newest first; without keys. */
  readonly reports: () => Promise<readonly object[]>;
  /** Removes secrets from a JSON document that leaves the machine. */
  readonly redact: (json: string) => string;
  /** Only on the Unix socket: its users may read the sink's file anyway. */
  readonly copy?: (sink: string, signal: AbortSignal) => Promise<string>;
  /** Only on the Unix socket: a comparison reads whole tables. */
  readonly reconcile?: (request: ReconcileRequest) => object;
  readonly reconciliation?: () => object;
  readonly stopReconciliation?: (id: string) => boolean;
}

export interface LetterBody {
  readonly ids: readonly number[] | null;
  readonly sink: string | null;
}

/** The client runs the query itself, on a copy of the sink. */
export interface QueryBody {
  readonly sink: string;
  readonly timeoutMs: number;
}

export interface SnapshotBody {
  readonly sinks: readonly string[];
  readonly tables: readonly string[];
  readonly where: string | null;
}

/** Requests that change nothing, so the log does not mention them. */
const QUIET_PATHS = new Set(["/api/v1/wait", "/api/v1/query"]);

/**
 * The daemon's HTTP interface, on a TCP address and, for the CLI, on a Unix socket. Only the socket serves what can run
 * SQL or read rows.
 */
export function createAdmin(port: AdminPort, entrance: Entrance, logger: Logger): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true });
  // fastify's own compiler generates code for each schema, a tenth of the CPU time of a daemon's start.
  app.setValidatorCompiler(validatorOf);
  // Only JSON: a page of another origin can make a browser send plain text and forms unasked, but not JSON.
  app.removeContentTypeParser("text/plain");
  app.addHook("onRequest", async (request, reply) => await admit(request, reply, entrance));
  // The CLI matches names in the socket's answers, and masks secrets itself when it prints.
  if (entrance.kind === "tcp")
    app.addHook("onSend", async (_request, reply, payload) => redacted(reply, payload, port));
  // Every field has a default, so the body may be missing.
  app.addHook("preValidation", async (request) => {
    request.body ??= {};
  });
  app.addHook("onResponse", async (request, { statusCode }) => {
    if (isLook(request) || statusCode >= 400 || QUIET_PATHS.has(request.routeOptions.url ?? "")) return;
    logger.info({ by: askerOf(request, entrance), ...orderOf(request) }, "an order was carried out");
  });
  app.setErrorHandler(async (error, _request, reply) => {
    if (error instanceof MillraceError)
      return await reply.code(409).send(failure(error.code, error.message, error.hint));
    const status = statusOf(error);
    const message = error instanceof Error ? error.message : String(error);
    return await reply.code(status).send(failure(status < 500 ? "MR1155" : "MR1153", message));
  });
  app.setNotFoundHandler(async ({ method }, reply) => {
    return await reply.code(404).send(failure("MR1156", `there is nothing at this path to ${method}`));
  });
  addReads(app, port);
  addActions(app, port, entrance);
  if (entrance.kind === "socket") addLocal(app, port);
  return app;
}

function redacted(reply: FastifyReply, payload: unknown, { redact }: AdminPort): unknown {
  const isJson = String(reply.getHeader("content-type")).startsWith("application/json");
  return isJson && typeof payload === "string" ? redact(payload) : payload;
}

function addReads(app: FastifyInstance, port: AdminPort): void {
  app.get("/healthz", async () => ({ ok: true }));
  app.get("/readyz", async (_request, reply) => {
    const reasons = port.unready();
    const ready = reasons.length === 0;
    return await reply.code(ready ? 200 : 503).send({ ready, reasons });
  });
  app.get("/metrics", async (_request, reply) => {
    const { contentType, text } = await port.metrics();
    return await reply.type(contentType).send(text);
  });
  app.get("/api/v1/status", async () => await port.status());
  app.get("/api/v1/snapshots", async () => await port.snapshots());
  app.get("/api/v1/reports", async () => ({ reports: await port.reports() }));
  app.get("/api/v1/openapi.json", async () => openApi(port.version));
}

/** Only on the Unix socket: queries show rows, and a comparison reads whole tables. */
function addLocal(app: FastifyInstance, port: AdminPort): void {
  if (port.copy !== undefined) addQueries(app, port.copy);
  addReconciliation(app, port);
}

/** Stops the copy when the client disconnects. */
function addQueries(app: FastifyInstance, copy: NonNullable<AdminPort["copy"]>): void {
  app.post<{ Body: QueryBody }>("/api/v1/query", { schema: { body: QUERY } }, async ({ body }, reply) => {
    const gone = new AbortController();
    reply.raw.once("close", () => gone.abort());
    return { copy: await copy(body.sink, AbortSignal.any([gone.signal, AbortSignal.timeout(body.timeoutMs)])) };
  });
}

function addReconciliation(app: FastifyInstance, port: AdminPort): void {
  const { reconcile, reconciliation, stopReconciliation } = port;
  if (reconcile === undefined || reconciliation === undefined || stopReconciliation === undefined) return;
  app.get("/api/v1/reconcile", async () => reconciliation());
  app.post<{ Body: ReconcileRequest }>("/api/v1/reconcile", { schema: { body: RECONCILE } }, async ({ body }) =>
    reconcile(body),
  );
  app.delete<{ Params: { id: string } }>("/api/v1/reconcile/:id", async ({ params }) => ({
    stopped: stopReconciliation(params.id),
  }));
}

function addActions(app: FastifyInstance, port: AdminPort, { kind }: Entrance): void {
  app.post<{ Body: { sink?: string } }>("/api/v1/pause", { schema: { body: SINK } }, async ({ body }) => {
    await port.pause(body.sink ?? null);
    return { ok: true };
  });
  app.post<{ Body: { sink?: string } }>("/api/v1/resume", { schema: { body: SINK } }, async ({ body }) => {
    await port.resume(body.sink ?? null);
    return { ok: true };
  });
  app.post<{ Body: { timeoutMs?: number } }>("/api/v1/wait", { schema: { body: WAIT } }, async ({ body }) => {
    return await port.wait(body.timeoutMs ?? 60_000);
  });
  const body = kind === "socket" ? SNAPSHOT_WITH_CONDITION : SNAPSHOT;
  app.post<{ Body: Partial<SnapshotBody> }>("/api/v1/snapshots", { schema: { body } }, async ({ body }) => {
    const { sinks = [], tables = [], where = null } = body;
    return { tables: await port.startSnapshot({ sinks, tables, where }) };
  });
  type Letters = Partial<LetterBody> & { readonly timeoutMs?: number };
  app.post<{ Body: Letters }>("/api/v1/dlq/replay", { schema: { body: REPLAY } }, async ({ body: given }) => {
    const { ids = null, sink = null, timeoutMs = 60_000 } = given;
    return await port.replayLetters({ ids, sink }, timeoutMs);
  });
  app.post<{ Body: Letters }>("/api/v1/dlq/discard", { schema: { body: DISCARD } }, async ({ body: given }) => {
    const { ids = null, sink = null } = given;
    return { discarded: await port.discardLetters({ ids, sink }) };
  });
  app.delete<{ Params: { id: string } }>("/api/v1/snapshots/:id", async ({ params }) => {
    return { cancelled: await port.cancelSnapshot(Number(params.id)) };
  });
}

/** The request for the log, without conditions: they may hold values. */
function orderOf({ method, url, body }: { method: string; url: string; body: unknown }): object {
  const { sink, sinks, tables }: Record<string, unknown> = typeof body === "object" ? { ...body } : {};
  return { order: `${method} ${url}`, sink, sinks, tables };
}

/** The HTTP status of an error that fastify blames on the request. */
function statusOf(error: unknown): number {
  if (typeof error !== "object" || error === null || !("statusCode" in error)) return 500;
  const { statusCode } = error;
  return typeof statusCode === "number" && statusCode >= 400 && statusCode < 500 ? statusCode : 500;
}
