/** Passwords of sinks over HTTP that change while the sink is open: the servers are real, and a front asks for the login. */
import { writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import * as clickhouse from "../../connectors/clickhouse/config.ts";
import * as elasticsearch from "../../connectors/elasticsearch/config.ts";
import type { ComparePort } from "../../src/core/contracts/comparing.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { Inspections } from "../../src/reconcile/inspections.ts";
import { failure, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { loginFront, type LoginFront } from "../support/network/http-gateway.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { clickhouseUrl, elasticsearchUrl, freshColumns, freshIndexPrefix } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const users = tableVersion({ table: "users", columns: { id: "int8" } });

/** `login`: the code of a login that is refused. */
async function rotates(sink: Sink, front: LoginFront, file: string, login: string): Promise<void> {
  const rotated = async (password: string): Promise<void> => {
    front.accept(password);
    await writeFile(file, `${password}\n`);
  };
  try {
    await rotated("canary-1");
    await sink.open(1, timeout());
    await sink.prepare([users], timeout());
    await rotated("canary-2");
    const refused = await failure(sink.look(timeout()));
    expect(refused).toMatchObject({ code: login, kind: "blocked" });
    expect(JSON.stringify([refused.message, refused.hint])).not.toContain("canary");
    await sink.open(2, timeout());
    await sink.prepare([users], timeout());
    front.accept("canary-3");
    await writeFile(file, "");
    expect(await failure(sink.look(timeout()))).toMatchObject({ code: login });
    expect(await failure(sink.open(3, timeout()))).toMatchObject({ code: "MR2901", kind: "blocked" });
    await rotated("canary-3");
    await sink.open(3, timeout());
    await sink.prepare([users], timeout());
    // A comparison that lasts for days asks again too.
    const port: Partial<ComparePort> = { inspect: (_, signal) => sink.comparison!.inspect(signal) };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    await using inspections = new Inspections(port as ComparePort);
    const inspection = await inspections.of(sink.name, timeout());
    expect(await inspection.rows(users, [["1"]], timeout())).toEqual([]);
    await rotated("canary-4");
    expect(await failure(inspection.rows(users, [["1"]], timeout()))).toMatchObject({ code: login });
    expect(await inspection.rows(users, [["1"]], timeout())).toEqual([]);
  } finally {
    await sink.close();
  }
}

test("Elasticsearch: the next connection takes the new one", async () => {
  using folder = temporaryFolder();
  await using prefix = freshIndexPrefix();
  const body = JSON.stringify({ error: { type: "security_exception", reason: "unable to authenticate" }, status: 401 });
  const headers = { "content-type": "application/json" };
  await using front = await loginFront(elasticsearchUrl(), { status: 401, headers, body });
  const given = { url: front.url, passwordFile: "./password", prefix: prefix.prefix, replicas: 0 };
  const options = elasticsearch.definition.parse(given);
  const context = { name: "search", daemon: "shop", folder: folder.path, options };
  await rotates(await elasticsearch.factory.create(context, quietLog), front, folder.file("password"), "MR2002");
});

test("ClickHouse: the next connection takes the new one", async () => {
  using folder = temporaryFolder();
  await using columns = freshColumns();
  const body = "Code: 516. DB::Exception: millrace: Authentication failed. (AUTHENTICATION_FAILED) (version 26.7.1)";
  const headers = { "x-clickhouse-exception-code": "516" };
  await using front = await loginFront(clickhouseUrl(), { status: 403, headers, body });
  const given = { url: front.url, passwordFile: "./password", schema: columns.prefix };
  const options = clickhouse.definition.parse(given);
  const context = { name: "columns", daemon: columns.prefix, folder: folder.path, options };
  await rotates(await clickhouse.factory.create(context, quietLog), front, folder.file("password"), "MR2002");
});
