/** What a teardown sent to the source, and gave up, arrives after the next start: it takes nothing from it. */
import { expect, test } from "vitest";
import { failure } from "../conformance/stage.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { createLog, never, openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase } from "../support/run/services.ts";

test.each(["pg_drop_replication_slot", "drop publication"])("%s", async (late) => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  await using proxy = await tcpProxy(database.url);
  const log = await (async () => {
    await using source = await openSource(database, { url: proxy.url(database.url) });
    const made = await createLog(source);
    const held = proxy.hold(late);
    const givenUp = failure(source.admin.remove!({ identity: made.identity, makes: true }, never));
    await held.reached;
    proxy.halfClose("client");
    await givenUp;
    return { ...made, held };
  })();
  await using source = await openSource(database);
  await source.admin.remove!({ identity: log.identity, makes: true }, never);
  await database.query("insert into t values (1)");
  const { identity } = await createLog(source);
  await log.held.release();
  const made = (await source.admin.made!({ identity, makes: true }, never)).map(({ what }) => what);
  expect(made).toEqual([`the replication slot millrace_${database.name}`, "the publication millrace_test"]);
});
