"""Image models with skips by concatenation, depthwise convolutions and patches."""


def unet(torch):
    """A two-level U-Net on masks, with bilinear upsampling and a Dice term in its loss."""
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    def double_conv(cin, cout):
        return nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.inc = double_conv(1, 8)
            self.down1 = nn.Sequential(nn.MaxPool2d(2), double_conv(8, 16))
            self.down2 = nn.Sequential(nn.MaxPool2d(2), double_conv(16, 16))
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.up1 = double_conv(32, 8)
            self.up2 = double_conv(16, 8)
            self.outc = nn.Conv2d(8, 1, 1)

        def forward(self, x):
            x1 = self.inc(x)
            x2 = self.down1(x1)
            x3 = self.down2(x2)
            x = self.up1(torch.cat([self.up(x3), x2], dim=1))
            x = self.up2(torch.cat([self.up(x), x1], dim=1))
            return self.outc(x)

    def dice_loss(logits, mask, eps=1.0):
        p = torch.sigmoid(logits)
        inter = (p * mask).sum(dim=(1, 2, 3))
        union = p.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
        return 1 - ((2 * inter + eps) / (union + eps)).mean()

    net = UNet()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9)
    grid = torch.arange(16)
    yy, xx = torch.meshgrid(grid, grid, indexing="ij")
    centres = torch.randint(4, 12, (4, 2))
    mask = (yy[None] - centres[:, 0, None, None]) ** 2 + (xx - centres[:, 1, None, None]) ** 2 < 12
    mask = mask.unsqueeze(1).float()
    image = mask + 0.3 * torch.randn_like(mask)
    losses = []
    for step in range(6):
        logits = net(image)
        loss = F.binary_cross_entropy_with_logits(logits, mask) + dice_loss(logits, mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_value_(net.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    with torch.inference_mode():
        iou = ((net(image) > 0) & (mask > 0.5)).sum() / (mask > 0.5).sum()
    return {"losses": losses, "iou": iou.item()}


def mobilenet(torch):
    """Inverted residuals: depthwise convolutions, ReLU6, hard-swish, squeeze and excitation."""
    nn = torch.nn
    torch.manual_seed(1)

    class SqueezeExcitation(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.fc1 = nn.Conv2d(channels, channels // 4, 1)
            self.fc2 = nn.Conv2d(channels // 4, channels, 1)

        def forward(self, x):
            s = nn.functional.adaptive_avg_pool2d(x, 1)
            s = torch.relu(self.fc1(s))
            return x * nn.functional.hardsigmoid(self.fc2(s))

    class InvertedResidual(nn.Module):
        def __init__(self, inp, oup, stride, expand_ratio):
            super().__init__()
            hidden = inp * expand_ratio
            self.use_res_connect = stride == 1 and inp == oup
            self.conv = nn.Sequential(
                nn.Conv2d(inp, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU6(inplace=True),
                nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
                nn.BatchNorm2d(hidden),
                nn.Hardswish(),
                SqueezeExcitation(hidden),
                nn.Conv2d(hidden, oup, 1, bias=False),
                nn.BatchNorm2d(oup),
            )

        def forward(self, x):
            return x + self.conv(x) if self.use_res_connect else self.conv(x)

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(inplace=True),
        InvertedResidual(8, 8, 1, 2),
        InvertedResidual(8, 12, 2, 4),
        InvertedResidual(12, 12, 1, 4),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(12, 5),
    )
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0, 0.01)
            nn.init.zeros_(m.bias)
    x, y = torch.randn(8, 3, 24, 24), torch.randint(5, (8,))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    losses = []
    for step in range(8):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {
        "losses": losses,
        "mean": model[1].running_mean,
        "count": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }


def vision_transformer(torch):
    """Patches by a strided convolution, a class token, learned positions, AdamW, warm-up."""
    nn = torch.nn
    torch.manual_seed(2)

    class Block(nn.Module):
        def __init__(self, dim, heads):
            super().__init__()
            self.norm1 = nn.LayerNorm(dim)
            self.attn = nn.MultiheadAttention(dim, heads, dropout=0.1, batch_first=True)
            self.norm2 = nn.LayerNorm(dim)
            self.mlp = nn.Sequential(
                nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim)
            )

        def forward(self, x):
            h = self.norm1(x)
            x = x + self.attn(h, h, h, need_weights=False)[0]
            return x + self.mlp(self.norm2(x))

    class ViT(nn.Module):
        def __init__(self, dim=32, depth=2):
            super().__init__()
            self.patch = nn.Conv2d(3, dim, kernel_size=4, stride=4)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
            self.blocks = nn.ModuleList([Block(dim, 4) for _ in range(depth)])
            self.norm = nn.LayerNorm(dim)
            self.head = nn.Linear(dim, 10)
            nn.init.trunc_normal_(self.cls_token, std=0.02)

        def forward(self, x):
            B = x.shape[0]
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat((self.cls_token.expand(B, -1, -1), x), dim=1) + self.pos_embed
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)[:, 0])

    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 5))
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8)
    losses = []
    for step in range(10):
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warmup.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        probs = model(x).softmax(dim=-1)
        top = probs.topk(3, dim=-1)
    return {
        "losses": losses,
        "top": top.values,
        "accuracy": (top.indices[:, 0] == y).float().mean(),
    }
