// BBC's sqs-consumer: eight consumers in one process, receives of ten, a batch handler, connections for all of them.

import { randomUUID } from "node:crypto";
import { Agent } from "node:http";
import { DynamoDBClient, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const CONSUMERS = 8;
const LEASE_MS = 30_000;
const endpoint = process.env.AWS_ENDPOINT_URL;
const requestHandler = () => ({ httpAgent: new Agent({ keepAlive: true, maxSockets: 128 }) });
const sqs = new SQSClient({ endpoint, requestHandler: requestHandler() });
const table = new DynamoDBClient({ endpoint, requestHandler: requestHandler() });

const names = (list) => Object.fromEntries(list.map((name) => [`#${name}`, name]));

async function claim(jobId) {
  const token = randomUUID();
  const now = Date.now();
  await table.send(
    new UpdateItemCommand({
      TableName: "jobs",
      Key: { jobId: { S: jobId } },
      UpdateExpression:
        "SET #status = :running, #leaseToken = :token, #leaseUntil = :until, #startedAt = :now," +
        " #attempt = if_not_exists(#attempt, :zero) + :one REMOVE #finishedAt",
      ConditionExpression:
        "attribute_not_exists(jobId) OR #status = :queued OR (#status = :running AND #leaseUntil < :now)",
      ExpressionAttributeNames: names(["status", "leaseToken", "leaseUntil", "startedAt", "attempt", "finishedAt"]),
      ExpressionAttributeValues: {
        ":queued": { S: "QUEUED" },
        ":running": { S: "RUNNING" },
        ":token": { S: token },
        ":until": { N: String(now + LEASE_MS) },
        ":now": { N: String(now) },
        ":zero": { N: "0" },
        ":one": { N: "1" },
      },
      ReturnValues: "ALL_NEW",
      ReturnValuesOnConditionCheckFailure: "ALL_OLD",
    }),
  );
  return token;
}

async function finish(jobId, token, result) {
  await table.send(
    new UpdateItemCommand({
      TableName: "jobs",
      Key: { jobId: { S: jobId } },
      UpdateExpression: "SET #status = :done, #result = :result, #finishedAt = :now REMOVE #leaseUntil",
      ConditionExpression: "#status = :running AND #leaseToken = :token AND #leaseUntil >= :now",
      ExpressionAttributeNames: names(["status", "result", "finishedAt", "leaseUntil", "leaseToken"]),
      ExpressionAttributeValues: {
        ":done": { S: "SUCCEEDED" },
        ":result": { S: result },
        ":running": { S: "RUNNING" },
        ":token": { S: token },
        ":now": { N: String(Date.now()) },
      },
      ReturnValuesOnConditionCheckFailure: "ALL_OLD",
    }),
  );
}

async function run(message) {
  const jobId = message.MessageAttributes.jobId.StringValue;
  const token = await claim(jobId);
  const result = { seen: JSON.parse(message.Body).number };
  await finish(jobId, token, JSON.stringify(result));
}

const consumers = Array.from({ length: CONSUMERS }, () =>
  Consumer.create({
    queueUrl: process.env.QUEUE_URL,
    sqs,
    batchSize: 10,
    waitTimeSeconds: 20,
    visibilityTimeout: 60,
    messageAttributeNames: ["All"],
    handleMessageBatch: async (messages) => {
      await Promise.all(messages.map(run));
      return messages;
    },
  }),
);
for (const consumer of consumers) {
  consumer.on("error", (error) => console.error(error));
  consumer.on("processing_error", (error) => console.error(error));
  consumer.start();
}
process.on("SIGTERM", () => process.exit(0));
