/** How tables were divided before, as the states of the shares have it. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { DIVISION, shareName } from "../../src/core/sharing/share.ts";
import { expectDivision, keptOf } from "../../src/sharing/divided-before.ts";
import { openState } from "../../src/state/open.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

test("the damaged state of one share keeps no other share from starting, and hides no other division", async () => {
  using folder = temporaryFolder();
  const state = { url: `sqlite:${folder.file("shop.db")}` };
  const opened = await openState({ url: `sqlite:${folder.file("shop-2.db")}` }, { name: shareName("shop", 2) });
  await opened.source.announce(1);
  await opened.source.created({ [DIVISION]: "4 by id" }, { epoch: 1, commit: 1n, index: 0 });
  await opened.close();
  writeFileSync(folder.file("shop-3.db"), "no database at all");
  const divided = { name: "shop", state };
  await expectDivision({ ...divided, division: "4 by id" }, quietLog);
  await expect(expectDivision({ ...divided, division: "5 by id" }, quietLog)).rejects.toMatchObject({ code: "MR1330" });
  await expect(keptOf(divided)).rejects.toMatchObject({ kind: "fatal" });
});
