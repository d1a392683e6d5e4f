// Answers requests of HTTP with Node.js.  node node.js 127.0.0.1 8080
const http = require("http");

const server = http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  response.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 6 });
  response.end("hello\n");
});
server.listen({ host: process.argv[2], port: Number(process.argv[3]), backlog: 511 }, () => {
  const { address, port } = server.address();
  console.log(`listening on tcp://${address}:${port}`);
});
