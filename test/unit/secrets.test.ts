import { expect, test } from "vitest";
import { Secrets } from "../../src/config/secrets.ts";

test("passwords of URLs are masked by their place, known or not, long or short", () => {
  const secrets = new Secrets();
  expect(secrets.redact("failed: postgres://shop:pw@db:5432/shop?x=1 (and redis://:abc@r)")).toBe(
    "failed: postgres://shop:***@db:5432/shop?x=1 (and redis://:***@r)",
  );
  expect(secrets.redact("http://host:9200/path mail@example.org")).toBe("http://host:9200/path mail@example.org");
});

test("a secret that contains another one is masked whole", () => {
  const secrets = new Secrets();
  secrets.add("abcd");
  secrets.add("abcd-efgh");
  expect(secrets.redact("x abcd-efgh y abcd z")).toBe("x *** y *** z");
});

test("a secret with quotes is found in JSON too, one with special characters is taken literally", () => {
  const secrets = new Secrets();
  secrets.add('a"b\\c$&');
  expect(secrets.redact(JSON.stringify({ error: 'a"b\\c$&' }))).toBe('{"error":"***"}');
  secrets.add("(.*)+");
  expect(secrets.redact("aaaa (.*)+")).toBe("aaaa ***");
});
