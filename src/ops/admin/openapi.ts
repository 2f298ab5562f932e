import * as z from "zod";
import { AUDIT, CHOICE, DISCARD, FRESH, FRESH_TIMEOUT, REPLAY, SNAPSHOT, VIEW, WAIT } from "./bodies.ts";
import { STATUS } from "../../core/contracts/status.ts";
import { type Fields, type Form, isText, type Optional } from "../../core/described.ts";

/**
 * `GET /api/v1/openapi.json` describes what the TCP address serves. What only the Unix socket serves is for the command
 * line.
 */
export function openApi(version: string): object {
  return {
    openapi: "3.1.0",
    info: {
      title: "Millrace",
      version,
      description:
        "Health, metrics and orders of one daemon. Without admin.tokens only GET is served here; with them every path except /healthz and /readyz needs a bearer token, and every method except GET an operator's.",
    },
    security: [{ bearer: [] }, {}],
    paths: { ...reads(), ...actions() },
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      schemas: { Error: ERROR },
    },
  };
}

function reads(): object {
  return {
    "/healthz": get("Whether the process lives.", { 200: json({ type: "object", properties: { ok: BOOLEAN } }) }, OPEN),
    "/readyz": get(
      "Whether the stream flows to every sink, with every table; if not, why.",
      { 200: json(READINESS), 503: json(READINESS) },
      OPEN,
    ),
    "/metrics": get("Prometheus' text format.", { 200: content("text/plain", { type: "string" }) }),
    "/api/v1/status": get("The document of `millrace status --json`.", {
      200: json(schemaOf(STATUS)),
    }),
    "/api/v1/fresh": get(
      "Answers when a sink has everything before the token of a commit (200), or after the timeout (504); 409: the token can't be compared with the log; 503: the daemon ends or begins again.",
      {
        200: json(FRESHNESS),
        504: json(FRESHNESS),
        409: json({ $ref: "#/components/schemas/Error" }),
        503: json({ $ref: "#/components/schemas/Error" }),
      },
      {
        parameters: (["at", "sink", "table", "timeout"] as const).map((name) => ({
          name,
          in: "query",
          schema: {
            ...z.toJSONSchema(FRESH.shape[name], { io: "input" }),
            ...(name === "timeout" ? { pattern: FRESH_TIMEOUT } : {}),
          },
        })),
      },
    ),
    "/api/v1/errors": get("What each number of an error means, and what to do.", {
      200: json({ type: "object", properties: { errors: { type: "array", items: OBJECT } } }),
    }),
    "/api/v1/reports": get("Past comparisons, newest first.", {
      200: json({ type: "object", properties: { reports: { type: "array", items: OBJECT } } }),
    }),
    "/api/v1/reports/{id}": get(
      "One of them, table by table, without keys of rows; null: it is not kept.",
      { 200: json({ type: "object", properties: { report: { anyOf: [OBJECT, { type: "null" }] } } }) },
      { parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }] },
    ),
    "/api/v1/dashboard": get(
      "What the dashboard shows beside the status: its charts, tables and dead letters.",
      { 200: json(OBJECT) },
      {
        parameters: [{ name: "since", in: "query", schema: z.toJSONSchema(VIEW.shape.since, { io: "input" }) }],
      },
    ),
    "/api/v1/audit": get(
      "Actions of operators, newest first: who, when, what, before, after.",
      { 200: json({ type: "object", properties: { entries: { type: "array", items: OBJECT } } }) },
      { parameters: [{ name: "limit", in: "query", schema: z.toJSONSchema(AUDIT.shape.limit, { io: "input" }) }] },
    ),
    "/": get("The dashboard; without a token a page that asks for it.", {
      200: content("text/html", { type: "string" }),
      401: content("text/html", { type: "string" }),
    }),
    "/api/v1/openapi.json": get("This document.", { 200: json(OBJECT) }),
  };
}

function actions(): object {
  const done = json({ type: "object", properties: { ok: BOOLEAN } });
  return {
    "/api/v1/pause": { post: post("Pauses one sink, or all, or some of their tables.", CHOICE, done) },
    "/api/v1/resume": { post: post("Resumes one sink, or all, or some of their tables.", CHOICE, done) },
    "/api/v1/wait": {
      post: post(
        "Answers when everything committed before is durable in every sink, or after the timeout.",
        WAIT,
        json({ type: "object", properties: { reached: BOOLEAN, missing: TEXTS } }),
      ),
    },
    "/api/v1/dlq/replay": {
      post: post(
        "Reads the rows of dead letters from the source again; answers when each has ended, or after the timeout.",
        REPLAY,
        json({ type: "object", properties: { replayed: COUNT, superseded: COUNT, failed: COUNT } }),
      ),
    },
    "/api/v1/dlq/discard": {
      post: post("Gives dead letters up.", DISCARD, json({ type: "object", properties: { discarded: COUNT } })),
    },
    "/api/v1/snapshots": {
      ...get("Tables that are being read again beside the stream.", { 200: json({ type: "array", items: OBJECT }) }),
      post: post(
        "Reads tables again beside the stream; answers with their names.",
        SNAPSHOT,
        json({ type: "object", properties: { tables: TEXTS } }),
      ),
    },
    "/api/v1/repair": {
      post: post(
        "Begins to compare every row with the source, and to read again what differs; answers with the id of the report to come.",
        SNAPSHOT,
        json({ type: "object", properties: { id: { type: "string" } } }),
      ),
    },
    "/api/v1/snapshots/{id}": {
      delete: {
        summary: "Cancels an unfinished one.",
        parameters: [{ name: "id", in: "path", required: true, schema: { type: "integer", minimum: 1 } }],
        responses: { 200: json({ type: "object", properties: { cancelled: BOOLEAN } }), default: REFUSED },
      },
    },
  };
}

const BOOLEAN = { type: "boolean" } as const;
const COUNT = { type: "integer" } as const;
const OBJECT = { type: "object" } as const;
const TEXTS = { type: "array", items: { type: "string" } } as const;
const READINESS = {
  type: "object",
  required: ["ready", "reasons"],
  properties: { ready: BOOLEAN, reasons: { ...TEXTS, description: "Empty if ready." } },
} as const;
const FRESHNESS = {
  type: "object",
  required: ["reached", "position", "missing"],
  properties: {
    reached: BOOLEAN,
    position: { type: ["string", "null"], description: "Up to where the sink has everything; of several the lowest." },
    missing: { ...TEXTS, description: "Empty if reached." },
  },
} as const;
const ERROR = {
  type: "object",
  properties: {
    error: {
      type: "object",
      properties: { code: { type: "string" }, message: { type: "string" }, hint: { type: ["string", "null"] } },
    },
  },
} as const;
/** Open to everybody. */
const OPEN = { security: [] };
const REFUSED = { description: "Refused.", ...body("application/json", { $ref: "#/components/schemas/Error" }) };
const LIMITED = { 429: { ...REFUSED, description: "Too many requests; `Retry-After` has the seconds to wait." } };

function get(summary: string, responses: object, others: object = {}): object {
  return { get: { summary, responses: { ...responses, ...LIMITED, default: REFUSED }, ...others } };
}

function post(summary: string, schema: z.ZodType, done: object): object {
  const requestBody = { required: false, ...body("application/json", z.toJSONSchema(schema)) };
  return { summary, requestBody, responses: { 200: done, ...LIMITED, default: REFUSED } };
}

function json(schema: object): object {
  return content("application/json", schema);
}

function content(type: string, schema: object): object {
  return { description: "Done.", ...body(type, schema) };
}

function body(type: string, schema: object): object {
  return { content: { [type]: { schema } } };
}

function schemaOf(fields: Fields): object {
  const properties = Object.entries(fields).map(([name, [form, description]]) => {
    return [name, { ...formSchema(form), description }];
  });
  return { type: "object", properties: Object.fromEntries(properties) };
}

function formSchema(form: Form | Optional): object {
  if (typeof form === "object") {
    if ("optional" in form) return formSchema(form.optional);
    if ("orNull" in form) return { anyOf: [formSchema(form.orNull), { type: "null" }] };
    if ("listOf" in form) return { type: "array", items: formSchema(form.listOf) };
    // Others may come: a client is to expect that.
    return "oneOf" in form ? { type: "string" } : schemaOf(form.object);
  }
  if (form === "boolean") return { type: "boolean" };
  if (!isText(form)) return { type: "number" };
  return form === "time" ? { type: "string", format: "date-time" } : { type: "string" };
}
