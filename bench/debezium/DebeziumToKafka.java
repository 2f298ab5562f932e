import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/** Debezium's engine as a producer: BROKER key=value…. Each batch is stored by all replicas before the next one is taken. */
public final class DebeziumToKafka {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        for (int i = 1; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            properties.setProperty(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "acks", "all", "enable.idempotence", "true");
        KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
            .using(properties)
            .notifying((records, committer) -> {
                List<Future<RecordMetadata>> sent = new ArrayList<>(records.size());
                for (ChangeEvent<String, String> record : records) {
                    sent.add(producer.send(new ProducerRecord<>(record.destination(), record.key(), record.value())));
                }
                // It sends at once what would wait for more.
                producer.flush();
                try {
                    for (Future<RecordMetadata> one : sent) one.get();
                } catch (Exception e) {
                    throw new RuntimeException(e);
                }
                for (ChangeEvent<String, String> record : records) committer.markProcessed(record);
                committer.markBatchFinished();
            })
            .using((isSuccess, message, error) -> {
                System.err.println(message);
                Runtime.getRuntime().halt(1);
            })
            .build();
        engine.run();
    }
}
