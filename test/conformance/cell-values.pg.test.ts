import { readFile, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { hasBinaryForm } from "../../src/core/model/types.ts";
import { postgresType } from "../support/postgres/postgres-types.ts";
import { freshDatabase } from "../support/run/services.ts";
import { GOLDEN_FILE } from "./cells.ts";
import { VALUES } from "./values.ts";

/** Rewritten with MILLRACE_GOLDEN=write. */
test("the values of the sink suite are as the server writes and sends them", async () => {
  await using database = await freshDatabase();
  await database.query("set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'");
  const found: Record<string, string[]> = {};
  for (const [native, texts] of Object.entries(VALUES)) {
    const sent = hasBinaryForm(postgresType(native));
    const type = native === "bit varying" ? "varbit" : native;
    const { rows } = await database.query<{ send: string }>(
      "select typsend::regproc::text as send from pg_type where oid = $1::regtype",
      [type],
    );
    const send = rows[0]!.send;
    const sentForms: string[] = [];
    for (const text of texts) {
      // format() uses the output function, a cast to text not always: it trims character(n).
      const { rows: values } = await database.query<{ text: string; bytes: string }>(
        `select format('%s', v) as text, encode(${send}(v), 'base64') as bytes from (select $1::text::${type} as v) x`,
        [text],
      );
      expect.soft(values[0]?.text).toBe(text);
      sentForms.push(values[0]!.bytes.replaceAll("\n", ""));
    }
    if (sent) found[native] = sentForms;
  }
  if (process.env["MILLRACE_GOLDEN"] === "write") await writeFile(GOLDEN_FILE, `${JSON.stringify(found, null, 1)}\n`);
  const golden: unknown = JSON.parse(await readFile(GOLDEN_FILE, "utf8"));
  expect(golden).toEqual(found);
});
