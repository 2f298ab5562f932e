import { expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

test.each(mysqlFlavours)("%s: a table that lost its key names it, also after a change without it", async (flavour) => {
  await using pipeline = await MysqlPipeline.start(
    flavour,
    ["create table keyed (a int, `b c` int, n int, primary key (a, `b c`))", "insert into keyed values (1, 1, 1)"],
    { kinds: ["sqlite"] },
  );
  const suspended = async () => (await pipeline.installation.status()).tables.suspended;
  await pipeline.run("alter table keyed drop primary key", "insert into keyed values (2, 2, 2)");
  const fix = `ALTER TABLE \`${pipeline.source.name}\`.\`keyed\` ADD PRIMARY KEY (\`a\`, \`b c\`);`;
  await eventually(async () =>
    expect(await suspended()).toMatchObject([{ error: { code: "MR1309", hint: expect.stringContaining(fix) } }]),
  );
  await pipeline.run(fix);
  await eventually(async () => expect(await suspended()).toEqual([]));
  await pipeline.expectEqual("keyed");
});
