import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.CloudEvents;
import io.debezium.engine.format.Json;
import io.debezium.engine.format.KeyValueHeaderChangeEventFormat;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Prints the records of Debezium's engine: topic, key and value of each, in base64 (`-`: none), on a line. FORMAT (json or cloudevents)
 * LAST key=value… Ends behind the first record of a topic that ends with LAST.
 */
public final class DebeziumRecords {
    public static void main(String[] args) throws Exception {
        PrintStream out = System.out;
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        Properties properties = new Properties();
        for (int i = 2; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            properties.setProperty(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        CountDownLatch done = new CountDownLatch(1);
        DebeziumEngine.ChangeConsumer<ChangeEvent<String, String>> consumer = (records, committer) -> {
            for (ChangeEvent<String, String> record : records) {
                out.println(line(record.destination()) + " " + line(record.key()) + " " + line(record.value()));
                committer.markProcessed(record);
                if (record.destination().endsWith(args[1])) done.countDown();
            }
            out.flush();
            committer.markBatchFinished();
        };
        DebeziumEngine.CompletionCallback callback = (isSuccess, message, error) -> {
            if (!isSuccess) {
                System.err.println(message);
                if (error != null) error.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
            done.countDown();
        };
        DebeziumEngine<ChangeEvent<String, String>> engine = args[0].equals("cloudevents")
            ? DebeziumEngine.create(KeyValueHeaderChangeEventFormat.of(Json.class, CloudEvents.class, Json.class))
                .using(properties).using(callback).notifying(consumer).build()
            : DebeziumEngine.create(KeyValueHeaderChangeEventFormat.of(Json.class, Json.class, Json.class))
                .using(properties).using(callback).notifying(consumer).build();
        ExecutorService runner = Executors.newSingleThreadExecutor();
        runner.execute(engine);
        done.await();
        out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static String line(String text) {
        if (text == null) return "-";
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }
}
