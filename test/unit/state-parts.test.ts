import { vi } from "vitest";
import { openState } from "../../src/state/open.ts";
import { type OpenStore, stateStoreSuite } from "../conformance/state.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

stateStoreSuite(async (): Promise<OpenStore> => {
  const folder = temporaryFolder();
  const url = `sqlite:${folder.file("s.db")}`;
  const opened = [await openState(url)];
  return {
    state: opened[0]!,
    another: async () => {
      const state = await openState(url);
      opened.push(state);
      return state;
    },
    pass: async (ms) => void vi.useFakeTimers({ now: Date.now() + ms, toFake: ["Date"] }),
    async [Symbol.asyncDispose]() {
      vi.useRealTimers();
      for (const state of opened) await state.close();
      folder[Symbol.dispose]();
    },
  };
});
