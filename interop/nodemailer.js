// Sends one raw message with Nodemailer; settings come as JSON in argv[2].
const fs = require('fs')
const settings = JSON.parse(process.argv[2])
const nodemailer = require(settings.module)
const transport = nodemailer.createTransport({
  host: 'localhost',
  port: settings.port,
  secure: settings.implicit,
  requireTLS: !settings.implicit,
  tls: { ca: fs.readFileSync(settings.ca), servername: 'localhost' },
  auth: { type: 'login', user: settings.user, pass: settings.password },
  authMethod: settings.mechanism,
})
transport
  .sendMail({ envelope: { from: settings.from, to: [settings.to] }, raw: fs.readFileSync(settings.file) })
  .then((info) => console.log(info.response))
  .catch((error) => {
    console.error(error)
    process.exitCode = 1
  })
