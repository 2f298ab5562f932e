import { expect, test } from "vitest";
import { failureOf } from "../../connectors/kafka/client/failures.ts";
import { classify } from "../../connectors/kafka/errors.ts";

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
