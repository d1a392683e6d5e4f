// A TCP echo in Node.js.  node echo.js 127.0.0.1 7000
const net = require("net");

const server = net.createServer({ noDelay: true }, (socket) => {
  socket.on("data", (chunk) => socket.write(chunk));
  socket.on("error", () => socket.destroy());
});
server.listen({ host: process.argv[2], port: Number(process.argv[3]), backlog: 511 }, () => {
  const { address, port } = server.address();
  console.log(`listening on tcp://${address}:${port}`);
});
