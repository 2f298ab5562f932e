import { NetworkError, TimeoutError } from "@platformatic/kafka";
import { expect, test } from "vitest";
import { failureOf, RefusedRequest } from "../../connectors/kafka/client/failures.ts";
import {
  classify,
  classifySource,
  failedBatch,
  isUnanswered,
  kafkaError,
  stuckAfter,
} from "../../connectors/kafka/errors.ts";
import { Followed } from "../../connectors/kafka/source/followed.ts";
import { systemClock } from "../../src/core/clock.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { throughMoves } from "../../src/daemon/lease.ts";

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
  const before = (id: string) => {
    const error = failureOf(id, "orders");
    return failedBatch(classify(error), error);
  };
  for (const id of ["NOT_LEADER_OR_FOLLOWER", "LEADER_NOT_AVAILABLE"])
    expect(stuckAfter(before(id), stopped).message).toBe(stopped.message);
  expect(stuckAfter(before("KAFKA_STORAGE_ERROR"), stopped).message).toContain(
    "after: a broker can't write to its disk",
  );
});

test("a batch that was spoiled on its way, or on a broker's disk, is sent or read again: the checkpoint is no other program's", () => {
  for (const request of ["Produce", "Fetch"]) {
    const { code, kind } = classify(new RefusedRequest(request, failureOf("CORRUPT_MESSAGE", "orders")));
    expect({ code, kind }).toEqual({ code: "MR2006", kind: "retryable" });
  }
});

test("a quota is the reason where an answer did not come in time, and not where a broker is gone", () => {
  const timedOut = new TimeoutError("Request timed out");
  expect(classify(timedOut)).toMatchObject({ code: "MR2001", message: expect.stringContaining("no answer in time") });
  expect([timedOut, failureOf("REQUEST_TIMED_OUT", "orders")].map(isUnanswered)).toEqual([true, true]);
  const refused = Object.assign(new Error("connect"), { code: "ECONNREFUSED" });
  const others = [new NetworkError("Connection closed"), refused, failureOf("BROKER_NOT_AVAILABLE", "broker 1")];
  expect(others.map(isUnanswered)).toEqual([false, false, false]);
});

test("what fails where the log is read is the source's, also for a sink that needs a stream of its own", () => {
  const stopped = kafkaError("MR2001", "retryable", "the connection to Kafka failed: ECONNREFUSED");
  for (const error of [stopped, failureOf("LEADER_NOT_AVAILABLE", "log")]) {
    expect(classify(error).connector).toMatchObject({ side: "sink" });
    expect(classifySource(error).connector).toEqual({ side: "source", kind: "kafka" });
  }
});

test("a log that goes on in another epoch makes the daemon begin again there, and not end", async () => {
  const followed = new Followed("reader", null, systemClock);
  const { signal } = new AbortController();
  const until = { epoch: 2, commit: 0n, index: 0 };
  const streams = [() => followed.moved({ ...until, epoch: 1 }, { until }, signal), async () => "it goes on"];
  const run = async () => {
    try {
      return await streams.shift()!();
    } catch (error) {
      throw classifySource(error, signal);
    }
  };
  expect(await throughMoves({ clock: systemClock, logger: SILENT }, run, signal)).toBe("it goes on");
});

test("records of another program in the log are told for an hour after the last one, whichever stream reads them again", () => {
  let nowMs = 0;
  const followed = new Followed("reader", null, { ...systemClock, elapsed: () => nowMs });
  const told = () => followed.hints.map((hint) => /at offset (\d+)/.exec(hint)?.[1]);
  expect(told()).toEqual([]);
  followed.passedOver("shop._log", 7n);
  nowMs += 50 * 60_000;
  followed.passedOver("shop._log", 9n);
  nowMs += 50 * 60_000;
  followed.passedOver("shop._log", 7n);
  expect(told()).toEqual(["9"]);
  nowMs += 10 * 60_000;
  expect(told()).toEqual([]);
});
