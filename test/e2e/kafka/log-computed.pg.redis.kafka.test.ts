/**
 * Computed columns behind a log in Kafka: the capturing daemon calls the functions, and what fails there is a dead letter here.
 * @module-tag heavy
 */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

test("values and failures of functions pass the log", async () => {
  using folder = temporaryFolder();
  writeFileSync(
    folder.file("rules.js"),
    `export const label = ({ name, body }) => { if (name === "throw") throw new Error(body); return name + ":" + body[0]; };`,
  );
  const label = { type: "text", from: ["name", "body"], value: `${folder.file("rules.js")}#label` };
  await using through = await ThroughKafka.start(
    `create table thing (id int primary key, name text, body text); alter table thing alter body set storage external;
     insert into thing select g, case g when 3 then 'throw' else 'n' || g end, repeat('a', 3000) from generate_series(1, 5) g;
     create view thing_ruled as select *, name || ':' || left(body, 1) as label from thing`,
    { kinds: ["postgres", "redis"], capture: { tables: { "public.thing": { columns: { label } } } } },
  );
  const { applying } = through;
  const letters = async () => {
    const { stdout } = await applying.installation.command("dlq", "list", "--json");
    const {
      letters: all,
    }: { letters: readonly { readonly sink: string; readonly key: string; readonly cause: string }[] } =
      JSON.parse(stdout);
    return all;
  };
  await applying.settled();
  const first = await letters();
  expect(first.map(({ sink, key }) => `${sink} ${key}`).toSorted()).toEqual(["postgres 3", "redis 3"]);
  expect(first[0]!.cause).toMatch(
    /^column "label" of public.thing: .*rules.js#label threw an Error at .*rules.js:1:\d+$/,
  );
  await applying.run(
    `update thing set name = 'other' where id = 1; update thing set id = 20, name = 'moved' where id = 2;
     update thing set name = 'throw' where id = 4; insert into thing values (7, 'throw', 'x')`,
  );
  await applying.settled();
  expect((await letters()).map(({ key }) => key).toSorted()).toEqual(["3", "3", "4", "4", "7", "7"]);
  await applying.run("update thing set name = 'right'");
  await applying.settled();
  await eventually(async () => expect(await letters()).toEqual([]));
  await applying.expectEqual([{ schema: "public", table: "thing", key: ["id"], shownBy: "thing_ruled" }]);
});
