import { timingSafeEqual } from "node:crypto";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { MillraceError } from "../core/errors.ts";
import type { ReconcileRequest } from "../core/reconciliation.ts";
import type { StatusDocument } from "../core/status.ts";

/** What the admin interface shows and does; the runtime's Control behind a few functions. */
export interface AdminPort {
  readonly status: () => Promise<StatusDocument>;
  readonly ready: () => boolean;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly pause: (sink: string | null) => Promise<void>;
  readonly resume: (sink: string | null) => Promise<void>;
  readonly wait: (timeoutMs: number) => Promise<{ readonly reached: boolean; readonly missing: readonly string[] }>;
  readonly startSnapshot: (request: SnapshotBody) => Promise<readonly string[]>;
  readonly snapshots: () => Promise<readonly object[]>;
  readonly cancelSnapshot: (id: number) => Promise<boolean>;
  /** Past comparisons, newest first, in short: without keys. */
  readonly reports: () => Promise<readonly object[]>;
  /** On the Unix socket alone: rows are for whoever may read the sink's file. */
  readonly query?: (request: QueryBody, signal: AbortSignal) => Promise<object>;
  /** On the Unix socket alone: it reads whole tables. */
  readonly reconcile?: (request: ReconcileRequest) => object;
  readonly reconciliation?: () => object;
  readonly stopReconciliation?: (id: string) => boolean;
}

export interface QueryBody {
  readonly sink: string;
  readonly sql: string;
  readonly rowCountMax: number;
  readonly byteCountMax: number;
  readonly timeoutMs: number;
}

export interface SnapshotBody {
  readonly sinks: readonly string[];
  readonly tables: readonly string[];
  readonly where: string | null;
}

export interface Token {
  readonly role: "viewer" | "operator";
  readonly token: string;
}

/** Open to everybody: what a supervisor asks for. */
const OPEN_PATHS = new Set(["/healthz", "/readyz"]);

/**
 * The daemon's HTTP interface, served on a TCP address and, for the CLI, on a Unix socket. With tokens everything but
 * the health paths wants one; whoever can open the Unix socket is the operator already.
 */
export function createAdmin(port: AdminPort, tokens: readonly Token[]): FastifyInstance {
  // A field that is not known is refused: left out, `{"snik": "search"}` would pause every sink.
  const ajv = { customOptions: { removeAdditional: false, coerceTypes: false } } as const;
  const app = fastify({ logger: false, forceCloseConnections: true, ajv });
  // JSON alone: a page of elsewhere can't make a browser send that unasked, but it can send plain text and forms.
  app.removeContentTypeParser("text/plain");
  app.addHook("onRequest", async (request, reply) => {
    if (!isLook(request) && isForeign(request)) {
      await reply.code(403).send(failure("MR1157", "a web page of another origin sent this"));
    } else if (tokens.length > 0 && !OPEN_PATHS.has(request.routeOptions.url ?? "")) {
      await admit(request, reply, tokens);
    }
  });
  // Every field has a default, so the body may be left out.
  app.addHook("preValidation", async (request) => {
    request.body ??= {};
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
  addActions(app, port);
  if (port.query !== undefined) addQueries(app, port.query);
  addReconciliation(app, port);
  return app;
}

function addReads(app: FastifyInstance, port: AdminPort): void {
  app.get("/healthz", async () => ({ ok: true }));
  app.get("/readyz", async (_request, reply) => {
    const ready = port.ready();
    return await reply.code(ready ? 200 : 503).send({ ready });
  });
  app.get("/metrics", async (_request, reply) => {
    const { contentType, text } = await port.metrics();
    return await reply.type(contentType).send(text);
  });
  app.get("/api/v1/status", async () => await port.status());
  app.get("/api/v1/snapshots", async () => await port.snapshots());
  app.get("/api/v1/reports", async () => ({ reports: await port.reports() }));
}

const SINK = { type: "object", additionalProperties: false, properties: { sink: { type: "string" } } } as const;
const SNAPSHOT = {
  type: "object",
  additionalProperties: false,
  properties: {
    sinks: { type: "array", items: { type: "string" } },
    tables: { type: "array", items: { type: "string" } },
    where: { type: "string", nullable: true },
  },
} as const;
const WAIT = {
  type: "object",
  additionalProperties: false,
  properties: { timeoutMs: { type: "number", minimum: 0, maximum: 86_400_000 } },
} as const;

const QUERY = {
  type: "object",
  additionalProperties: false,
  required: ["sink", "sql", "rowCountMax", "byteCountMax", "timeoutMs"],
  properties: {
    sink: { type: "string" },
    sql: { type: "string" },
    rowCountMax: { type: "integer", minimum: 1 },
    byteCountMax: { type: "integer", minimum: 1 },
    timeoutMs: { type: "integer", minimum: 1, maximum: 86_400_000 },
  },
} as const;

/** Who goes away does not want the answer any more. */
function addQueries(app: FastifyInstance, query: NonNullable<AdminPort["query"]>): void {
  app.post<{ Body: QueryBody }>("/api/v1/query", { schema: { body: QUERY } }, async ({ body }, reply) => {
    const gone = new AbortController();
    reply.raw.once("close", () => gone.abort());
    return await query(body, AbortSignal.any([gone.signal, AbortSignal.timeout(body.timeoutMs)]));
  });
}

const RECONCILE = {
  type: "object",
  additionalProperties: false,
  required: ["sinks", "tables", "patienceMs", "repairs", "sampleMax", "mode", "showsValues", "resume"],
  properties: {
    sinks: { type: "array", items: { type: "string" } },
    tables: { type: "array", items: { type: "string" } },
    patienceMs: { type: "integer", minimum: 0, maximum: 86_400_000 },
    repairs: { type: "boolean" },
    sampleMax: { type: "integer", minimum: 1, maximum: 10_000 },
    mode: { enum: ["full", "fast"] },
    showsValues: { type: "boolean" },
    resume: { type: "string", nullable: true },
  },
} as const;

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

function addActions(app: FastifyInstance, port: AdminPort): void {
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
  app.post<{ Body: Partial<SnapshotBody> }>("/api/v1/snapshots", { schema: { body: SNAPSHOT } }, async ({ body }) => {
    const { sinks = [], tables = [], where = null } = body;
    return { tables: await port.startSnapshot({ sinks, tables, where }) };
  });
  app.delete<{ Params: { id: string } }>("/api/v1/snapshots/:id", async ({ params }) => {
    return { cancelled: await port.cancelSnapshot(Number(params.id)) };
  });
}

async function admit(request: FastifyRequest, reply: FastifyReply, tokens: readonly Token[]): Promise<void> {
  const role = roleOf(request, tokens);
  if (role === null) {
    await reply.code(401).header("www-authenticate", "Bearer").send(failure("MR1151", "a bearer token is wanted"));
  } else if (!isLook(request) && role !== "operator") {
    await reply.code(403).send(failure("MR1152", "this token may look, not act"));
  }
}

function isLook({ method }: FastifyRequest): boolean {
  return method === "GET" || method === "HEAD";
}

/** Browsers name the page that makes them send something; a page of elsewhere must not act on a loopback address. */
function isForeign({ headers }: FastifyRequest): boolean {
  return headers.origin !== undefined && URL.parse(headers.origin)?.host !== headers.host;
}

/** What fastify thinks of the request, where it is at fault. */
function statusOf(error: unknown): number {
  if (typeof error !== "object" || error === null || !("statusCode" in error)) return 500;
  const { statusCode } = error;
  return typeof statusCode === "number" && statusCode >= 400 && statusCode < 500 ? statusCode : 500;
}

function roleOf(request: FastifyRequest, tokens: readonly Token[]): Token["role"] | null {
  const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (given === undefined) return null;
  return tokens.find((known) => equal(known.token, given))?.role ?? null;
}

/** In constant time, so that a token can't be guessed byte by byte. */
function equal(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}

function failure(code: string, message: string, hint: string | null = null) {
  return { error: { code, message, hint } };
}
