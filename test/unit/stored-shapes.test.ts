import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { openState } from "../../src/state/open.ts";

const SHAPE: TableShape = {
  id: "public.items",
  schema: "public",
  table: "items",
  dialect: "postgres",
  relation: 1,
  columns: [
    { name: "id", type: { kind: "int", bits: 32, signed: true }, native: "integer", nullable: false, identity: 1 },
  ],
  key: [0],
  deferrableKey: true,
  keyChosen: true,
  unenforcedKey: true,
  fingerprint: "f",
};

test("an unenforced key is stored under the name that older states have, and read back", async () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-shapes-"));
  const path = join(folder, "state.db");
  try {
    const first = await openState(`sqlite:${path}`, { name: "shop" });
    await first.lease.acquire("test", 60_000, () => false);
    await first.schemas.resolve(SHAPE, { epoch: 1, commit: 1n, index: 0 });
    await first.close();

    const database = new DatabaseSync(path);
    const stored = JSON.parse(String(database.prepare("SELECT shape FROM table_version").get()?.["shape"]));
    database.close();
    expect(stored).toMatchObject({ keyChosen: true, keyOnWord: true });
    expect(stored).not.toHaveProperty("unenforcedKey");

    const second = await openState(`sqlite:${path}`, { name: "shop", readOnly: true });
    const [read] = await second.schemas.list();
    await second.close();
    expect(read).toMatchObject(SHAPE);
    expect(read).not.toHaveProperty("keyOnWord");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
