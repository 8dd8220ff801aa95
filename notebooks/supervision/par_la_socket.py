"""Demande au moteur Docker, par sa socket, de créer un volume ; affiche sa réponse."""

import socket

moteur = socket.socket(socket.AF_UNIX)
moteur.connect("/var/run/docker.sock")
corps = b'{"Name": "ecrit-par-la-socket"}'
moteur.sendall(
    b"POST /volumes/create HTTP/1.0\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(corps), corps)
)
print(moteur.recv(1000).decode().splitlines()[0])
