/** Freshness by the names of transactions and by positions of the log: docs/freshness.md. */
import type { Connection, RowDataPacket } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import type { FreshAnswer } from "../../../src/core/contracts/orders.ts";
import { Redis } from "ioredis";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { redisUrl } from "../../support/run/services.ts";

const COMMITS = 25;
const FORMS = ["name", "set", "place"] as const;

/** As an application takes it, after its commit. */
async function tokenOf(
  session: Connection,
  flavour: "mysql" | "mariadb",
  form: (typeof FORMS)[number],
): Promise<string> {
  const first = async (sql: string): Promise<readonly unknown[]> => {
    const [[row]] = await session.query<RowDataPacket[][]>({ sql, rowsAsArray: true });
    return Array.from(row!);
  };
  if (form === "place") {
    const [file, place] = await first(flavour === "mysql" ? "show binary log status" : "show master status");
    return `${String(file)}:${String(place)}`;
  }
  const own = form === "name" ? "@@last_gtid" : "@@global.gtid_binlog_pos";
  const [names] = await first(`select ${flavour === "mysql" ? "@@global.gtid_executed" : own}`);
  const set = String(names).replaceAll("\n", "");
  if (flavour === "mariadb" || form === "set") return set;
  // The session's own: the last of the server, as nobody else writes.
  const [server, ...ranges] = set.split(",").at(-1)!.split(":");
  return `${server}:${ranges.at(-1)!.split("-").at(-1)}`;
}

describe.each(["mysql", "mariadb"] as const)("%s", (flavour) => {
  test.each(FORMS)("no answer comes before the sink has the row: %s", async (form) => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["create table notes (id int primary key, note varchar(50))"],
      { kinds: ["redis"], source: { heartbeat: "1h" } },
    );
    const cache = new Redis(redisUrl());
    const { connection: session } = pipeline.source;
    try {
      for (let id = 1; id <= COMMITS; id++) {
        await session.query("insert into notes values (?, ?)", [id, `note ${id}`]);
        const at = await tokenOf(session, flavour, form);
        const query = new URLSearchParams({ at, sink: "redis", timeout: "60s" });
        const answer = await pipeline.installation.ask<FreshAnswer>("GET", `/api/v1/fresh?${query.toString()}`);
        const note = await cache.hget(`${pipeline.sinks.keyPrefix}${pipeline.source.name}:notes:${id}`, "note");
        expect({ ...answer, at, note }).toMatchObject({ reached: true, missing: [], note: `note ${id}` });
      }
      // A name that nobody has written yet.
      const later = flavour === "mysql" ? "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:5" : "77-88-5";
      const query = new URLSearchParams({ at: later, sink: "redis", timeout: "300ms" });
      expect(await pipeline.installation.ask<FreshAnswer>("GET", `/api/v1/fresh?${query.toString()}`)).toMatchObject({
        reached: false,
        missing: ["the stream has not come to the token"],
      });
    } finally {
      cache.disconnect();
    }
  });
});
