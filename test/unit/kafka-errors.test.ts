import { expect, test } from "vitest";
import { failureOf } from "../../connectors/kafka/client/failures.ts";
import { classify, classifySource, kafkaError, stuckAfter } from "../../connectors/kafka/errors.ts";

test.each(["PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "TRANSACTION_COORDINATOR_FENCED"])(
  "%s is another writer",
  (id) => {
    const { code, kind, message } = classify(failureOf(id, "millrace-shop-log"));
    expect({ code, kind, message }).toEqual({
      code: "MR3109",
      kind: "retryable",
      message: expect.stringContaining(id),
    });
  },
);

test("a broker that stopped is told as that, not with the partitions that it gave away before", () => {
  const stopped = kafkaError("MR2001", "retryable", "the connection to Kafka failed: ECONNREFUSED");
  const before = (id: string) => classify(failureOf(id, "orders"));
  for (const id of ["NOT_LEADER_OR_FOLLOWER", "LEADER_NOT_AVAILABLE"])
    expect(stuckAfter(before(id), stopped).message).toBe(stopped.message);
  expect(stuckAfter(before("KAFKA_STORAGE_ERROR"), stopped).message).toContain(
    "after: a broker can't write to its disk",
  );
});

test("what fails where the log is read is the source's, also for a sink that needs a stream of its own", () => {
  const stopped = kafkaError("MR2001", "retryable", "the connection to Kafka failed: ECONNREFUSED");
  for (const error of [stopped, failureOf("LEADER_NOT_AVAILABLE", "log")]) {
    expect(classify(error).connector).toMatchObject({ side: "sink" });
    expect(classifySource(error).connector).toEqual({ side: "source", kind: "kafka" });
  }
});
