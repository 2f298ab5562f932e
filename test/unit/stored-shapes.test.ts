import { expect, test } from "vitest";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { openState } from "../../src/state/open.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

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

test("a shape comes back as it was stored", async () => {
  using folder = temporaryFolder();
  const url = `sqlite:${folder.file("state.db")}`;
  const first = await openState(url, { name: "shop" });
  await first.lease.acquire("test", 60_000);
  await first.schemas.resolve([SHAPE], { epoch: 1, commit: 1n, index: 0 });
  await first.close();

  const second = await openState(url, { name: "shop", readOnly: true });
  const [read] = await second.schemas.list();
  await second.close();
  expect(read).toMatchObject(SHAPE);
});
