"""Reads topics by Confluent's own client and deserialisers; prints each record as a line of JSON: topic, key, value.

Whole numbers are texts, other numbers {"float": text}, bytes and decimals (their unscaled value) are in base64.
Arguments: brokers, URL of the registry, avro or json, topics.
"""

import base64
import json
import sys
from decimal import Decimal

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def unscaled(value):
    digits = int("".join(map(str, value.as_tuple().digits)))
    number = -digits if value.as_tuple().sign else digits
    length = (number if number >= 0 else -number - 1).bit_length() // 8 + 1
    return number.to_bytes(length, "big", signed=True)


def told(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return {"float": json.dumps(value)}
    if isinstance(value, Decimal):
        return told(unscaled(value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: told(of) for name, of in value.items()}
    if isinstance(value, list):
        return [told(of) for of in value]
    raise TypeError(type(value))


def main(brokers, registry, encoding, *topics):
    client = SchemaRegistryClient({"url": registry})
    deserialise = AvroDeserializer(client) if encoding == "avro" else JSONDeserializer(None, schema_registry_client=client)
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "none",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
    )
    for topic in topics:
        for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
            place = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=30)
            consumer.assign([place])
            while consumer.position([place])[0].offset < end:
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():
                    raise RuntimeError(message.error())
                key, value = (
                    deserialise(part, SerializationContext(topic, field))
                    for part, field in ((message.key(), MessageField.KEY), (message.value(), MessageField.VALUE))
                )
                print(json.dumps({"topic": topic, "key": told(key), "value": told(value)}))
    consumer.close()


main(*sys.argv[1:])
