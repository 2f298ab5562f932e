/**
 * The log in Kafka ends in the middle of a transaction, which lies in many frames: that is no place to begin at.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { eventually } from "../../support/run/waiting.ts";

const ITEMS = `create table item (id int primary key, n int, body text);
  insert into item select g, 0, '' from generate_series(1, 5000) g`;
/** Of 50 MB: it lies in six frames or more, and nearly every end of the log is in the middle of one. */
const UPDATE = "update item set n = n + 1, body = repeat(md5((id + n)::text), 312)";

test("a log that begins anew while large transactions are written goes on between two of them", async () => {
  await using through = await ThroughKafka.start(ITEMS, { kinds: ["postgres"] });
  const { applying } = through;
  await applying.expectEqual(["item"]);
  await applying.daemon.stop();
  await through.captureAgain({}, { batch: { rows: 20 } });
  await eventually(
    async () => {
      const writing = (async () => {
        for (let i = 0; i < 5; i++) await applying.run(UPDATE);
      })();
      // What it asks the capturing daemon has its answer within some seconds, or it is to be tried again.
      const recovered = await applying.installation.command("recover", "--anyway", "--yes");
      await writing;
      expect(recovered, recovered.stderr).toMatchObject({ exitCode: 0 });
    },
    { withinMs: 120_000 },
  );
  await applying.run("update item set body = ''");
  applying.daemon = applying.installation.run();
  await applying.daemon.streaming();
  await applying.expectEqual(["item"]);
});
