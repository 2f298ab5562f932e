import { blocks, reasonOf } from "../../core/conditions/condition.ts";
import type * as z from "zod";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { isAborted, MillraceError } from "../../core/errors.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { letterSubject, type Order } from "../../core/audit/audited.ts";
import { dashboardPage, PAGE_PATH } from "../dashboard/page.ts";
import { NOTHING_SEEN } from "../dashboard/view.ts";
import { errorPages } from "../error-pages.ts";
import {
  AUDIT,
  DISCARD,
  FRESH,
  NUMBERED,
  QUERY,
  RECONCILE,
  REPLAY,
  CHOICE,
  SNAPSHOT,
  SNAPSHOT_WITH_CONDITION,
  validatorOf,
  VIEW,
  WAIT,
} from "./bodies.ts";
import { admit, askerOf, type Entrance, failure, FRESH_PATH, isLook, roleOf } from "./admission.ts";
import { openApi } from "./openapi.ts";
import type { AdminPort } from "./port.ts";

/** Requests that change nothing, so the log does not mention them. */
const QUIET_PATHS = new Set(["/api/v1/wait", "/api/v1/query"]);

/** Enough for the numbers of 10,000 dead letters. */
const BODY_BYTES_MAX = 256 * 1024;
const HEADER_BYTES_MAX = 8 * 1024;
/** Applications that wait for a sink hold one each. */
const CONNECTIONS_MAX = 4_096;
/** A request must have arrived within this time, and its headers within the next one. */
const REQUEST_MS_MAX = 10_000;
const HEADERS_MS_MAX = 5_000;
/** A look at the daemon takes milliseconds; one that takes longer than this answers 503. */
const ANSWER_MS_MAX = 10_000;

const OPTIONS = {
  logger: false,
  forceCloseConnections: true,
  bodyLimit: BODY_BYTES_MAX,
  requestTimeout: REQUEST_MS_MAX,
  http: { maxHeaderSize: HEADER_BYTES_MAX, connectionsCheckingInterval: 1_000 },
  // Unless it is given others, it loads a hundred files of its own compilers, which nothing here uses.
  schemaController: { compilersFactory: { buildValidator: noCompiler, buildSerializer: noCompiler } },
} as const;
const LOOK = { handlerTimeout: ANSWER_MS_MAX } as const;

/** Of every answer over TCP. The dashboard's page has a policy of its own. */
const HEADERS = [
  ["cache-control", "no-store"],
  ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
  ["cross-origin-resource-policy", "same-origin"],
  ["referrer-policy", "no-referrer"],
  ["x-content-type-options", "nosniff"],
] as const;

/**
 * The daemon's HTTP interface, on a TCP address and, for the CLI, on a Unix socket. Only the socket serves what can run
 * SQL or read rows.
 */
export function createAdmin(port: AdminPort, entrance: Entrance, logger: Logger): FastifyInstance {
  const app = entered(entrance, port.redact);
  // Only JSON: a page of another origin can make a browser send plain text and forms unasked, but not JSON.
  app.removeContentTypeParser("text/plain");
  // Every field has a default, so the body may be missing. A body `null` is none of the described ones.
  app.addHook("preValidation", async (request) => {
    if (request.body === undefined) request.body = {};
  });
  app.addHook("onResponse", async (request, { statusCode }) => {
    if (isLook(request) || statusCode >= 400 || QUIET_PATHS.has(request.routeOptions.url ?? "")) return;
    const { who, via } = askerOf(request, entrance);
    logger.info({ by: who, via, ...orderOf(request) }, "an order was carried out");
  });
  app.setErrorHandler(async (error, _request, reply) => {
    if (isAborted(error) || port.isOver()) return await tellOver(reply);
    if (error instanceof MillraceError)
      return await reply.code(409).send(failure(error.code, error.message, error.hint));
    const status = statusOf(error);
    const message = error instanceof Error ? error.message : String(error);
    return await reply.code(status).send(failure(status < 500 ? "MR1155" : "MR1119", message));
  });
  app.setNotFoundHandler(async ({ method }, reply) => {
    return await reply.code(404).send(failure("MR1155", `there is nothing at this path to ${method}`));
  });
  addLooks(app, port, entrance);
  addReads(app, port);
  addActions(app, port, entrance);
  if (entrance.kind === "socket") addLocal(app, port, entrance);
  return app;
}

function noCompiler(): never {
  throw new Error("invariant broken: a schema is compiled by validatorOf");
}

interface WaitingPort {
  readonly status: StatusDocument;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string | null };
  readonly redact: (json: string) => string;
}

/** The same interface while there is no daemon behind it that could do or show more. */
export function createWaitingAdmin({ status, error, redact }: WaitingPort, entrance: Entrance): FastifyInstance {
  const app = entered(entrance, redact);
  const { code, message, hint } = error;
  addLooks(app, { status: async () => status, view: async () => NOTHING_SEEN }, entrance);
  app.setNotFoundHandler(async (_request, reply) => reply.code(503).send(failure(code, message, hint)));
  return app;
}

/** What was asked outlived the run that was to answer it. */
async function tellOver(reply: FastifyReply): Promise<FastifyReply> {
  const message = "the daemon ends or begins again, and has not answered: ask again";
  return await reply.code(503).header("retry-after", 1).send(failure("MR1116", message));
}

async function tellReady({ conditions }: StatusDocument, reply: FastifyReply): Promise<FastifyReply> {
  const reasons = conditions.filter((one) => blocks(one, "ready")).map(reasonOf);
  const ready = reasons.length === 0;
  return await reply.code(ready ? 200 : 503).send({ ready, reasons });
}

function entered(entrance: Entrance, redact: (json: string) => string): FastifyInstance {
  const app = fastify(OPTIONS);
  // fastify's own compiler generates code for each schema, a tenth of the CPU time of a daemon's start.
  app.setValidatorCompiler(validatorOf);
  app.server.maxConnections = CONNECTIONS_MAX;
  app.server.headersTimeout = HEADERS_MS_MAX;
  app.addHook("onRequest", async (request, reply) => await admit(request, reply, entrance));
  // The CLI matches names in the socket's answers, and masks secrets itself when it prints.
  if (entrance.kind === "tcp") {
    app.addHook("onSend", async (_request, reply, payload) => {
      for (const [name, value] of HEADERS) if (!reply.hasHeader(name)) void reply.header(name, value);
      return redacted(reply, payload, redact);
    });
  }
  return app;
}

function redacted(reply: FastifyReply, payload: unknown, redact: (json: string) => string): unknown {
  const isJson = String(reply.getHeader("content-type")).startsWith("application/json");
  return isJson && typeof payload === "string" ? redact(payload) : payload;
}

/** What the dashboard, supervisors and `status` ask. */
function addLooks(app: FastifyInstance, port: Pick<AdminPort, "status" | "view">, entrance: Entrance): void {
  app.get("/healthz", LOOK, async () => ({ ok: true }));
  app.get("/readyz", LOOK, async (_request, reply) => await tellReady(await port.status(), reply));
  app.get(PAGE_PATH, LOOK, async (_request, reply) => {
    const { html, policy } = dashboardPage();
    return await reply.type("text/html; charset=utf-8").header("content-security-policy", policy).send(html);
  });
  app.get("/api/v1/status", LOOK, async () => await port.status());
  app.get<{ Querystring: z.output<typeof VIEW> }>(
    "/api/v1/dashboard",
    { ...LOOK, schema: { querystring: VIEW } },
    async (request) => ({ ...(await port.view(request.query.since)), role: roleOf(request, entrance) }),
  );
  app.get("/api/v1/errors", LOOK, async () => ({ errors: errorPages() }));
}

function addReads(app: FastifyInstance, port: AdminPort): void {
  app.get("/metrics", LOOK, async (_request, reply) => {
    const { contentType, text } = await port.metrics();
    return await reply.type(contentType).send(text);
  });
  app.get<{ Querystring: z.output<typeof FRESH> }>(
    FRESH_PATH,
    { schema: { querystring: FRESH } },
    async ({ query }, reply) => {
      const { at = null, sink = null, table: tables, timeout } = query;
      const answer = await port.fresh({ at, sink, tables }, timeout);
      return await reply.code(answer.reached ? 200 : 504).send(answer);
    },
  );
  app.get("/api/v1/snapshots", LOOK, async () => await port.snapshots());
  app.get("/api/v1/reports", LOOK, async () => ({ reports: await port.reports() }));
  app.get<{ Params: { id: string } }>("/api/v1/reports/:id", LOOK, async ({ params }) => ({
    report: await port.report(params.id),
  }));
  app.get<{ Querystring: z.output<typeof AUDIT> }>(
    "/api/v1/audit",
    { ...LOOK, schema: { querystring: AUDIT } },
    async ({ query }) => ({ entries: await port.audit(query.limit) }),
  );
  app.get("/api/v1/openapi.json", LOOK, async () => openApi(port.version));
}

/** Only on the Unix socket: queries show rows, and what a comparison found may show their keys and values. */
function addLocal(app: FastifyInstance, port: AdminPort, entrance: Entrance): void {
  if (port.copy !== undefined) addQueries(app, port.copy);
  addReconciliation(app, port, entrance);
}

/** Stops the copy when the client disconnects. */
function addQueries(app: FastifyInstance, copy: NonNullable<AdminPort["copy"]>): void {
  app.post<{ Body: z.output<typeof QUERY> }>("/api/v1/query", { schema: { body: QUERY } }, async ({ body }, reply) => {
    const gone = new AbortController();
    reply.raw.once("close", () => gone.abort());
    return { copy: await copy(body.sink, AbortSignal.any([gone.signal, AbortSignal.timeout(body.timeoutMs)])) };
  });
}

function addReconciliation(app: FastifyInstance, port: AdminPort, entrance: Entrance): void {
  const { reconcile, reconciliation, reportProofs, stopReconciliation } = port;
  if (reportProofs !== undefined) {
    app.post("/api/v1/proofs/report", async (request) => {
      const order = { ...askerOf(request, entrance), action: "report proof", subject: {} };
      return await port.audited(order, reportProofs);
    });
  }
  if (reconcile === undefined || reconciliation === undefined || stopReconciliation === undefined) return;
  app.get("/api/v1/reconcile", async () => reconciliation());
  app.post<{ Body: z.output<typeof RECONCILE> }>(
    "/api/v1/reconcile",
    { schema: { body: RECONCILE } },
    async (request) => {
      const { body } = request;
      const { sinks, tables, mode, repairs, resume } = body;
      const order = {
        ...askerOf(request, entrance),
        action: "reconcile",
        subject: { sinks, tables, mode, repairs, resume },
      };
      return await port.audited(order, async () => reconcile(body));
    },
  );
  app.delete<{ Params: { id: string } }>("/api/v1/reconcile/:id", async ({ params }) => ({
    stopped: stopReconciliation(params.id),
  }));
}

function addActions(app: FastifyInstance, port: AdminPort, entrance: Entrance): void {
  const orderOf = (request: FastifyRequest, action: string, subject: Order["subject"]): Order => ({
    ...askerOf(request, entrance),
    action,
    subject,
  });
  for (const action of ["pause", "resume"] as const) {
    app.post<{ Body: z.output<typeof CHOICE> }>(`/api/v1/${action}`, { schema: { body: CHOICE } }, async (request) => {
      const { sink = null, tables = [] } = request.body;
      const subject = { sinks: sink === null ? [] : [sink], ...(tables.length === 0 ? {} : { tables }) };
      await port.audited(orderOf(request, action, subject), async () => {
        await port[action](sink, tables);
        return {};
      });
      return { ok: true };
    });
  }
  app.post<{ Body: z.output<typeof SNAPSHOT> }>("/api/v1/repair", { schema: { body: SNAPSHOT } }, async (request) => {
    const { sinks = [], tables = [] } = request.body;
    const order = orderOf(request, "reconcile", { sinks, tables, repairs: true });
    return await port.audited(order, async () => port.repair(sinks, tables));
  });
  app.post<{ Body: z.output<typeof WAIT> }>("/api/v1/wait", { schema: { body: WAIT } }, async ({ body }) => {
    return await port.wait(body.timeoutMs ?? 60_000);
  });
  const body = entrance.kind === "socket" ? SNAPSHOT_WITH_CONDITION : SNAPSHOT;
  app.post<{ Body: z.output<typeof SNAPSHOT_WITH_CONDITION> }>(
    "/api/v1/snapshots",
    { schema: { body } },
    async (request) => {
      const { sinks = [], tables = [], where = null } = request.body;
      // The condition may hold values.
      const order = orderOf(request, "snapshot start", { sinks, tables, isPart: where !== null });
      const start = async () => ({ tables: await port.startSnapshot({ sinks, tables, where }) });
      return await port.audited(order, start);
    },
  );
  const numbered = { schema: { params: NUMBERED } };
  app.delete<{ Params: { id: string } }>("/api/v1/snapshots/:id", numbered, async (request) => {
    const id = Number(request.params.id);
    const cancel = async () => ({ cancelled: await port.cancelSnapshot(id) });
    return await port.audited(orderOf(request, "snapshot cancel", { id }), cancel);
  });
  app.post<{ Body: z.output<typeof REPLAY> }>("/api/v1/dlq/replay", { schema: { body: REPLAY } }, async (request) => {
    const { ids = null, sink = null, timeoutMs = 60_000 } = request.body;
    const replay = async () => await port.replayLetters({ ids, sink }, timeoutMs);
    return await port.audited(orderOf(request, "dlq replay", letterSubject(ids, sink)), replay);
  });
  app.post<{ Body: z.output<typeof DISCARD> }>(
    "/api/v1/dlq/discard",
    { schema: { body: DISCARD } },
    async (request) => {
      const { ids = null, sink = null } = request.body;
      const discard = async () => ({ discarded: await port.discardLetters({ ids, sink }) });
      return await port.audited(orderOf(request, "dlq discard", letterSubject(ids, sink)), discard);
    },
  );
}

/** The request for the log, without conditions: they may hold values. */
function orderOf({ method, url, body }: { method: string; url: string; body: unknown }): object {
  const { sink, sinks, tables }: Record<string, unknown> = typeof body === "object" ? { ...body } : {};
  return { order: `${method} ${url}`, sink, sinks, tables };
}

/** The HTTP status of an error that fastify blames on the request, or 503 for an answer that took too long. */
function statusOf(error: unknown): number {
  if (typeof error !== "object" || error === null || !("statusCode" in error)) return 500;
  const { statusCode } = error;
  const isKnown = typeof statusCode === "number" && statusCode >= 400 && (statusCode < 500 || statusCode === 503);
  return isKnown ? statusCode : 500;
}
