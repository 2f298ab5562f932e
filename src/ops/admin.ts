import fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import { MillraceError } from "../core/errors.ts";
import type { ReconcileRequest } from "../core/contracts/reconciliation.ts";
import type { StatusDocument } from "../core/contracts/status.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { QUERY, RECONCILE, SINK, SNAPSHOT, SNAPSHOT_WITH_CONDITION, validatorOf, WAIT } from "./admin-bodies.ts";
import { admit, askerOf, type Entrance, isLook } from "./admission.ts";
import { failure } from "./failure.ts";
import { openApi } from "./openapi.ts";

/** What the admin interface shows and does; the runtime's Control behind a few functions. */
export interface AdminPort {
  readonly version: string;
  readonly status: () => Promise<StatusDocument>;
  /** Why it is not ready; empty where it is. */
  readonly unready: () => readonly string[];
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly pause: (sink: string | null) => Promise<void>;
  readonly resume: (sink: string | null) => Promise<void>;
  readonly wait: (timeoutMs: number) => Promise<{ readonly reached: boolean; readonly missing: readonly string[] }>;
  readonly startSnapshot: (request: SnapshotBody) => Promise<readonly string[]>;
  readonly snapshots: () => Promise<readonly object[]>;
  readonly cancelSnapshot: (id: number) => Promise<boolean>;
  /** Past comparisons, newest first, in short: without keys. */
  readonly reports: () => Promise<readonly object[]>;
  /** Takes what is secret out of the texts of a JSON document that leaves the machine. */
  readonly redact: (json: string) => string;
  /** On the Unix socket alone: rows are for whoever may read the sink's file. */
  readonly copy?: (sink: string, signal: AbortSignal) => Promise<string>;
  /** On the Unix socket alone: it reads whole tables. */
  readonly reconcile?: (request: ReconcileRequest) => object;
  readonly reconciliation?: () => object;
  readonly stopReconciliation?: (id: string) => boolean;
}

/** A query is run by whoever asks, on a copy of what the sink holds. */
export interface QueryBody {
  readonly sink: string;
  readonly timeoutMs: number;
}

export interface SnapshotBody {
  readonly sinks: readonly string[];
  readonly tables: readonly string[];
  readonly where: string | null;
}

/** Orders that change nothing an operator would look for in the log. */
const QUIET_PATHS = new Set(["/api/v1/wait", "/api/v1/query"]);

/**
 * The daemon's HTTP interface, served on a TCP address and, for the CLI, on a Unix socket. What can run SQL or read rows is
 * served on the socket alone.
 */
export function createAdmin(port: AdminPort, entrance: Entrance, logger: Logger): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true });
  // fastify's own writes and compiles code for each schema: a tenth of the processor time of a daemon's start.
  app.setValidatorCompiler(validatorOf);
  // JSON alone: a page of elsewhere can't make a browser send that unasked, but it can send plain text and forms.
  app.removeContentTypeParser("text/plain");
  app.addHook("onRequest", async (request, reply) => await admit(request, reply, entrance));
  // Our own command line matches names in what the socket says, and masks what it prints itself.
  if (entrance.kind === "tcp")
    app.addHook("onSend", async (_request, reply, payload) => redacted(reply, payload, port));
  // Every field has a default, so the body may be left out.
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

/** On the Unix socket alone: queries show rows, a comparison reads whole tables. */
function addLocal(app: FastifyInstance, port: AdminPort): void {
  if (port.copy !== undefined) addQueries(app, port.copy);
  addReconciliation(app, port);
}

/** Who goes away does not want the answer any more. */
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
  app.delete<{ Params: { id: string } }>("/api/v1/snapshots/:id", async ({ params }) => {
    return { cancelled: await port.cancelSnapshot(Number(params.id)) };
  });
}

/** What was asked, without conditions: those may hold values. */
function orderOf({ method, url, body }: { method: string; url: string; body: unknown }): object {
  const { sink, sinks, tables }: Record<string, unknown> = typeof body === "object" ? { ...body } : {};
  return { order: `${method} ${url}`, sink, sinks, tables };
}

/** What fastify thinks of the request, where it is at fault. */
function statusOf(error: unknown): number {
  if (typeof error !== "object" || error === null || !("statusCode" in error)) return 500;
  const { statusCode } = error;
  return typeof statusCode === "number" && statusCode >= 400 && statusCode < 500 ? statusCode : 500;
}
