/** The process of an engine that runs apart: does what it is asked, and ends with the daemon. */
import { type DuckDBConnection, DuckDBInstance, type Json } from "@duckdb/node-api";
import { findMillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { wholeResult } from "./reading.ts";
import type { Answer, Request } from "./engine-process.ts";

const DONE: Answer = { kind: "done", rowsChanged: 0 };

let instance: DuckDBInstance | null = null;
const connections = new Map<number, DuckDBConnection>();
const streams = new Map<number, AsyncIterator<Json[][]>>();

async function answerTo(request: Request): Promise<Answer> {
  switch (request.kind) {
    case "open":
      instance = await DuckDBInstance.create(request.path, request.options);
      return DONE;
    case "connect":
      invariant(instance !== null, "an engine is opened before it is used");
      connections.set(request.connection, await instance.connect());
      return DONE;
    case "run": {
      if (request.sql === "COMMIT") failpoint("duckdb.engine-committing");
      if (request.sql.startsWith("COPY ")) failpoint("duckdb.engine-copying");
      const { rowsChanged } = await connectionOf(request.connection).run(request.sql, request.values);
      return { kind: "done", rowsChanged };
    }
    case "read": {
      const reader = await connectionOf(request.connection).runAndReadAll(request.sql, request.values);
      return { kind: "rows", rows: reader.getRowsJson() };
    }
    case "stream": {
      const result = await connectionOf(request.connection).stream(request.sql);
      streams.set(
        request.stream,
        wholeResult(result, (it) => it.yieldRowsJson()),
      );
      return DONE;
    }
    case "pull": {
      const stream = streams.get(request.stream);
      invariant(stream !== undefined, "a stream is read until it ends");
      const next = await stream.next();
      return next.done === true ? { kind: "end" } : { kind: "rows", rows: next.value };
    }
    case "drop":
      streams.delete(request.stream);
      return DONE;
    case "interrupt":
      connections.get(request.connection)?.interrupt();
      return DONE;
    case "disconnect":
      connections.get(request.connection)?.disconnectSync();
      connections.delete(request.connection);
      return DONE;
    case "close":
      instance?.closeSync();
      return DONE;
    default:
      return request satisfies never;
  }
}

/** An error as such would arrive without what makes it ours. */
function failureOf(error: unknown): Answer {
  const known = findMillraceError(error);
  if (known === undefined) return { kind: "failed", message: error instanceof Error ? error.message : String(error) };
  const { code, kind, message, hint, reason } = known;
  return { kind: "failed", message, known: { code, kind, hint, reason } };
}

function connectionOf(id: number): DuckDBConnection {
  const connection = connections.get(id);
  invariant(connection !== undefined, "a connection is used until it is given back");
  return connection;
}

process.on("message", ({ id, request }: { readonly id: number; readonly request: Request }) => {
  const send = (answer: Answer): void => void (id !== 0 && process.send?.({ id, answer }));
  answerTo(request).then(send, (error: unknown) => send(failureOf(error)));
});
// The daemon decides when this process ends: a terminal's Ctrl-C goes to both.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
process.once("disconnect", () => process.kill(process.pid, "SIGKILL"));
